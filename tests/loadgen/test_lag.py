import pytest

from headway.core import NS_PER_MS, Request, Slo
from headway.loadgen.call import Call
from headway.loadgen.lag import lag_block


def sent(late_ms: float, *, held_ms: float = 0, connecting_ms: float = 0) -> Call:
    call = Call(Request(1, 1000, 2, 9), 9)
    call.eligible_ns += round(held_ms * NS_PER_MS)
    call.connect_ns = round(connecting_ms * NS_PER_MS)
    call.sent_ns = call.eligible_ns + call.connect_ns + round(late_ms * NS_PER_MS)
    return call


@pytest.mark.parametrize(
    ("late_ms", "ttft_ms", "fit"),
    [
        (4.9, 100, True),
        (5.1, 100, False),
        (9.9, 1000, True),
        (10.1, 1000, False),
        (5.1, None, False),
    ],
)
def test_fit_to_judge(late_ms: float, ttft_ms: int | None, *, fit: bool) -> None:
    slo = Slo(ttft_ns=None if ttft_ms is None else ttft_ms * NS_PER_MS)
    block = lag_block([sent(late_ms)] * 3, [slo, None], 0.5, 2.0)
    assert block["fit"] is fit
    assert ("NOT FIT" in (block["verdict"] or "")) is not fit
    assert block["cpu_share"] == 0.25


def test_neither_a_limit_nor_a_handshake_is_the_generators_fault() -> None:
    block = lag_block([sent(1, held_ms=500, connecting_ms=40)], [], 0.0, 1.0)
    assert block["fit"]
    assert block["lag_max_ms"] == 1
    assert block["held_p50_ms"] == 500
    assert block["new_connections"] == 1


def test_nothing_was_sent() -> None:
    assert lag_block([], [], 0.0, 0.0)["lag_p99_ms"] is None
