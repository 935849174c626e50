"""INV: prompts computed on one instance and decoded on another lose no token, no block and no end."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from headway.core import NS_PER_S, Request, SetRole
from headway.core.fleet import DECODE, MIXED, PREFILL
from headway.policies.batching.sarathi import Sarathi
from headway.testing import Setup, SmallWorkload, StepTimes, run_live, run_sim, small_workload
from headway.workload import Offered

PD = Setup("prefill_first", routing="distserve", instances=2, roles=(PREFILL, DECODE))


@settings(max_examples=30)
@given(
    st.integers(0, 999),
    st.sampled_from(((PREFILL, DECODE), (PREFILL, PREFILL, DECODE), (PREFILL, MIXED, DECODE))),
    st.sampled_from((130, 300, 5_000)),
    st.sampled_from(("prefill_first", "sarathi")),
    st.sampled_from(("recompute", "swap")),
)
def test_any_fleet_with_roles_conserves_and_leaps_as_it_steps(
    seed: int, roles: tuple[str, ...], blocks: int, batching: str, memory: str
) -> None:
    workload = small_workload(seed, 30, 25.0, streams=2, abort_share=0.3, prefixes=True, turns=1)
    setup = replace(
        PD, batching=batching, memory=memory, instances=len(roles), roles=roles, blocks=blocks
    )
    run = run_sim(workload, setup, until_s=600)
    run.conserved()
    assert set(run.log.ends.values()) <= {"finished", "aborted"}
    stepped = run_sim(workload, replace(setup, leap=False), until_s=600)
    assert (run.log.tokens, run.log.ends_ns) == (stepped.log.tokens, stepped.log.ends_ns)


def test_the_first_token_comes_from_prefill_and_one_transfer_later_the_rest() -> None:
    request = Request(0, 0, 800, 11)
    run = run_sim(SmallWorkload((Offered(request, 11),)), PD)
    run.conserved()
    times = run.log.times_ns[0]
    prefill, decode = run.instances
    assert (prefill.steps, decode.steps > 0) == (1, True)
    step, transfer = StepTimes().chunk_time_ns(800, 0), 50 * StepTimes().block_ns
    assert times[0] == step, "TTFT is the prefill instance's"
    gap = times[1] - times[0]
    assert transfer < gap <= transfer + StepTimes().chunk_time_ns(1, 801) + 100
    assert run.log.computed[0] == 800 + 10, "nothing is computed twice"


def test_decode_pulls_only_what_it_has_room_for() -> None:
    offers = tuple(Offered(Request(n, 0, 400, 100), 100) for n in range(30))
    run = run_sim(SmallWorkload(offers), replace(PD, blocks=200))
    run.conserved()
    assert set(run.log.ends.values()) == {"finished"}
    assert not run.instances[0].preemptions, (
        "the KV of those not accepted stays where it was computed"
    )


def test_a_fleet_in_which_nobody_decodes_any_more_goes_on() -> None:
    class Stops:
        def plan(self, view):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            if view.decoding and not view.prefilling and view.decoding[0].computed_tokens > 405:
                raise LookupError("never mind")
            return Sarathi().plan(view)

    offers = tuple(Offered(Request(n, n * NS_PER_S // 9, 400, 8), 8) for n in range(12))
    run = run_sim(SmallWorkload(offers), replace(PD, batching=Stops, report_interval_ns=10_000_000))
    assert len(run.log.ends) == 12


class Turns:
    """A control that changes a role at every tick."""

    period_ns = 300_000_000

    def __init__(self) -> None:
        self.n = 0

    def tick(self, view):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        self.n += 1
        return [SetRole(f"i{view.rng.randrange(3)}", (PREFILL, DECODE, MIXED)[self.n % 3])]


@pytest.mark.parametrize("seed", range(6))
def test_roles_may_change_at_any_time(seed: int) -> None:
    workload = small_workload(seed, 40, 20.0, streams=2, abort_share=0.2)
    setup = replace(PD, instances=3, roles=(PREFILL, DECODE), control=Turns, blocks=200, seed=seed)
    run = run_sim(workload, setup, until_s=600)
    run.conserved()


def test_roles_in_real_time() -> None:
    workload = small_workload(3, 25, 12.0, abort_share=0.2)
    run = run_live(workload, replace(PD, instances=3, roles=(PREFILL, DECODE)), speedup=40.0)
    run.conserved()
