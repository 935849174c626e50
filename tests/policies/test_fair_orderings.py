"""What fair orderings promise: backlogged tenants are served alike, and a light one does not feel a heavy one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from headway.api import simulate
from headway.core import Request, Sequence
from headway.policies.ordering.uwfq import UserWeightedFairQueueing
from headway.workload import Listed, Offered

MS = 1_000_000


def _offers(heavy: int, light: int = 6) -> list[Offered]:
    """A burst of a heavy tenant, and then now and then a request of a light one."""
    offers = [Offered(Request(n, 0, 300, 100, tenant="heavy"), 100) for n in range(heavy)]
    offers += [
        Offered(Request(10_000 + n, (n + 1) * 400 * MS, 300, 20, tenant="light"), 20)
        for n in range(light)
    ]
    return sorted(offers, key=lambda offer: offer.request.arrival_ns)


def _light_ms(ordering: str, heavy: int) -> float:
    options = {"sarathi.max_num_seqs": 8, "sarathi.token_budget": 128}
    columns = simulate(
        ordering=ordering, workload=Listed(_offers(heavy)), gpu="a100", options=options
    ).requests()
    light = columns["tenant"] == "light"
    return float((columns["end_ns"] - columns["arrival_ns"])[light].mean()) / MS


@pytest.mark.parametrize("ordering", ["vtc", "uwfq"])
def test_a_light_tenant_does_not_feel_how_much_a_heavy_one_sends(ordering: str) -> None:
    few, many = _light_ms(ordering, 40), _light_ms(ordering, 120)
    assert many < 1.1 * few
    assert _light_ms("fcfs", 120) > 2 * _light_ms("fcfs", 40)  # the danger is real


@pytest.mark.parametrize("ordering", ["vtc", "uwfq"])
def test_backlogged_tenants_get_equal_service(ordering: str) -> None:
    """Equal requests, one tenant sends three times as many: while both wait, ends alternate."""
    offers = [
        Offered(Request(n, 0, 200, 50, tenant="one" if n % 4 else "other"), 50) for n in range(80)
    ]
    columns = simulate(
        ordering=ordering, workload=Listed(offers), options={"sarathi.max_num_seqs": 8}
    ).requests()
    first = columns["tenant"][:32].tolist()
    assert abs(first.count("one") - first.count("other")) <= 10  # one batch and a bit


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 2000)), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_fluid_finish_times(asked: list[tuple[str, int]]) -> None:
    """All at once: nobody finishes before its work could be done alone, and a tenant's order is by length."""
    policy = UserWeightedFairQueueing(prefill_ms=1.0, decode_ms=0.0)
    sequences = [
        Sequence(Request(n, 0, work, 1, tenant=who)) for n, (who, work) in enumerate(asked)
    ]
    for sequence in sequences:
        policy.on_submit(sequence)
    keys = {sequence.id: policy.key(sequence)[0] for sequence in sequences}
    for who in {who for who, _ in asked}:
        mine = [s for s in sequences if s.request.tenant == who]
        mine.sort(key=lambda s: (s.request.prompt_tokens, s.id))
        ends = [keys[s.id] for s in mine]
        assert ends == sorted(ends)
        assert ends[-1] == pytest.approx(sum(s.request.prompt_tokens for s in mine) * MS)
