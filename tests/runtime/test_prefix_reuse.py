"""A prefix hit saves computing and changes nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from headway.core import Request
from headway.testing import Setup, SmallWorkload, run_sim, small_workload
from headway.workload import Offered


@settings(max_examples=20)
@given(st.integers(0, 1000), st.sampled_from((200, 2000)), st.integers(0, 2))
def test_hits_save_computing_and_never_change_outputs(seed: int, blocks: int, turns: int) -> None:
    workload = small_workload(seed, 25, 4.0, prefixes=True, turns=turns)
    cached = run_sim(workload, Setup(blocks=blocks))
    plain = run_sim(workload, Setup(blocks=blocks, prefix_cache=False))
    for run in (cached, plain):
        run.conserved()
    assert cached.log.ends == plain.log.ends
    lengths = [{i: len(times) for i, times in r.log.tokens.items()} for r in (cached, plain)]
    assert lengths[0] == lengths[1]
    assert not any(plain.log.cached.values())
    if blocks == 2000:
        assert sum(cached.log.computed.values()) < sum(plain.log.computed.values())


def turns_of(tenants: tuple[str, str]) -> SmallWorkload:
    first = Request(0, 0, 160, 33, tenant=tenants[0], prefix=((7, 160),), next_extent=8)
    second = Request(
        1, 10_000_000_000, 230, 5, tenant=tenants[1], prefix=((7, 160), (8, 33), (9, 37))
    )
    return SmallWorkload((Offered(first, 33), Offered(second, 5)))


@pytest.mark.parametrize(
    ("tenants", "salted", "tokens"),
    [(("a", "a"), True, 192), (("a", "b"), True, 0), (("a", "b"), False, 192)],
)
def test_next_turn_starts_on_all_whole_blocks_of_the_last(
    tenants: tuple[str, str], *, salted: bool, tokens: int
) -> None:
    run = run_sim(turns_of(tenants), Setup(salted=salted))
    run.conserved()
    assert run.log.cached == {0: 0, 1: tokens}


def test_a_request_that_is_all_cached_still_computes_a_token() -> None:
    request = Request(0, 0, 160, 1, prefix=((7, 160),))
    again = replace(request, id=1, arrival_ns=1_000_000_000)
    run = run_sim(SmallWorkload((Offered(request, 1), Offered(again, 1))))
    run.conserved()
    assert run.log.computed[0] == 160
    assert run.log.computed[1] > 0
