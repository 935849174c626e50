"""Join and leave at any step, against a batch that is closed until its last member ends."""

from headway.api import simulate
from headway.core import Request
from headway.workload import Listed, Offered


def _ends(batching: str) -> dict[int, int]:
    """A long answer, and a short one that comes a little later."""
    offers = [
        Offered(Request(0, 0, 100, 400), 400),
        Offered(Request(1, 200_000_000, 100, 8), 8),
    ]
    result = simulate(batching=batching, workload=Listed(offers), requests=2)
    columns = result.requests()
    return dict(zip(columns["id"].tolist(), columns["end_ns"].tolist(), strict=True))


def test_a_newcomer_joins_and_leaves_while_another_goes_on() -> None:
    assert _ends("flover")[1] < _ends("flover")[0]
    assert _ends("static_batching")[1] > _ends("static_batching")[0]


def test_a_static_batch_is_closed_until_it_ends() -> None:
    columns = simulate(batching="static_batching", requests=60, rate_rps=4.0).requests()
    started, first, last = (
        columns[f"{name}_ns"] for name in ("started", "first_token", "last_token")
    )
    for begun in started.tolist():
        assert not ((first < begun) & (begun < last)).any()  # nobody decodes when somebody starts
    assert len(set(last.tolist())) > 2
