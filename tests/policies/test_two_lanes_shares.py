"""semi-PD and Nexus: parts stay parts, follow what they should, and cost nothing where only one phase is there."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from headway.api import simulate
from headway.core import InstanceView, Request, Slo, StepPlan
from headway.core.plan import DONE, Step, StepResult, Work, WorkDone
from headway.core.sequence import Sequence
from headway.policies.batching.nexus import LEAST, MOST, Nexus, adjust
from headway.policies.batching.semi_pd import DECODE, PREFILL, SemiPd
from headway.testing import Setup, run_sim, small_workload
from headway.workload import AtOnce, Fixed, Independent, Synthetic

MS = 1_000_000
SLO = Slo(ttft_ns=100 * MS, tpot_ns=20 * MS)


class Told(SemiPd):
    """Is told what it observes: a first token after so many ms, and a pace, a window long."""

    def see(self, at_ms: int, ttft_ms: int, tpot_ms: int) -> None:
        one = Sequence(Request(0, (at_ms - ttft_ms) * MS, 10, 100, SLO))
        first = StepResult(DONE, [WorkDone(8, 10, 1)], [at_ms * MS])
        self._prefill_began_ns = (at_ms - 5) * MS
        self.on_step(Step(0, PREFILL, [Work(one, 10)]), first)
        other = Sequence(Request(1, 0, 10, 100, SLO))
        other.output_tokens, other.first_token_ns = 11, 0
        other.last_token_ns = 10 * tpot_ms * MS
        ends = [(at_ms + n) * MS for n in range(1, self.window + 1)]
        self.on_step(Step(1, DECODE, [Work(other, 1)]), StepResult(DONE, [WorkDone(8, 1, 1)], ends))


def test_semi_pd_moves_towards_the_phase_that_alone_misses() -> None:
    policy = Told()
    policy.see(200, 300, 10)
    assert policy.prefill_share == 100 > policy.decode_share
    policy.see(400, 50, 60)
    raised = policy.decode_share
    assert raised > 70 or policy.prefill_share < 100


def test_semi_pd_keeps_the_parts_when_both_miss_or_none() -> None:
    for ttft_ms, tpot_ms in ((300, 60), (50, 10)):
        policy = Told(prefill_share=60, decode_share=50)
        policy.see(200, ttft_ms, tpot_ms)
        assert (policy.prefill_share, policy.decode_share) == (60, 50)


def test_semi_pd_moves_at_most_so_far_and_stays_in_range() -> None:
    policy = Told()
    for n in range(1, 40):
        before = policy.prefill_share, policy.decode_share
        policy.see(400 * n, 5000, 10) if n % 30 < 20 else policy.see(400 * n, 10, 5000)
        after = policy.prefill_share, policy.decode_share
        moved = sum(abs(a - b) for a, b in zip(before, after, strict=True))
        assert moved <= policy.step * policy.most_moves
        assert all(policy.step <= part <= 100 for part in after)


def test_adjust_stops_at_the_slack_from_either_side() -> None:
    def decode(percent: int) -> float:
        return max(1.0, 50 / percent)

    for start in (LEAST, 30, 50, 80, MOST):
        assert adjust(decode, 1.1, start) == 54  # 46 % left: 1.087 times as long
    assert adjust(lambda percent: 1.0, 1.1, 50) == MOST
    assert adjust(lambda percent: 100 / percent, 1.0, 50) == LEAST


class Watching(Nexus):
    """Notes the split of every plan that had both phases."""

    splits: list[int]

    def plan(self, view: InstanceView) -> StepPlan:
        plan = super().plan(view)
        if plan.shares[PREFILL] < 1000:
            self.splits.append(plan.shares[PREFILL])
            assert sum(plan.shares.values()) == 1000
        else:
            assert plan.shares[DECODE] == 1000
        return plan


@pytest.mark.parametrize("delta", [1, 5, 20])
def test_nexus_moves_its_split_by_delta_or_not_at_all(delta: int) -> None:
    policy = Watching(delta=delta)
    policy.splits = []
    simulate(batching=lambda: policy, gpu="a100", requests=60, rate_rps=4.0)
    splits = policy.splits
    assert splits
    assert all(10 * LEAST <= split <= 10 * MOST for split in splits)
    moves = [abs(b - a) for a, b in itertools.pairwise(splits) if a != b]
    assert all(move >= 10 * delta for move in moves)


def test_nexus_takes_the_shortest_prompt_but_not_for_ever() -> None:
    def order(gamma: float) -> list[int]:
        started: list[int] = []

        class Noting(Nexus):
            def plan(self, view: InstanceView) -> StepPlan:
                plan = super().plan(view)
                started.extend(
                    w.sequence.id
                    for w in plan.work.get(PREFILL, ())
                    if w.sequence.id not in started
                )
                return plan

        workload = small_workload(3, 30, 200.0, prompt_tokens=(20, 900), output_tokens=(1, 2))
        run_sim(workload, Setup(lambda: Noting(gamma=gamma, token_budget=900))).conserved()
        lengths = {o.request.id: o.request.prompt_tokens for o in workload.offers()}
        return [lengths[request] for request in started]

    def late(lengths: list[int]) -> int:
        return sum(a > b for a, b in itertools.pairwise(lengths))

    assert late(order(0.0)) < late(order(1e6))


@pytest.mark.parametrize("policy", ["semi_pd", "nexus"])
@pytest.mark.parametrize("blocks", [20_000, 140])
def test_conserves(policy: str, blocks: int) -> None:
    run_sim(small_workload(4, 40, 30.0), Setup(policy, blocks=blocks)).conserved()


SINGLE: dict[str, Callable[[], Any]] = {
    "prefill": lambda: Independent(Fixed(1500), Fixed(1)),
    "decode": lambda: Independent(Fixed(16), Fixed(200)),
}


@pytest.mark.parametrize("policy", ["semi_pd", "nexus"])
@pytest.mark.parametrize("phase", SINGLE)
def test_null_a_phase_by_itself_gains_and_loses_nothing(policy: str, phase: str) -> None:
    def seconds(batching: str, **options: object) -> float:
        workload = Synthetic(AtOnce(), SINGLE[phase](), 64, 1, SLO)
        result = simulate(batching=batching, gpu="a100", workload=workload, options=options)
        return float(result.requests()["end_ns"].max()) / 1e9

    ours = seconds(policy)
    assert ours == pytest.approx(seconds("sarathi", **{"sarathi.token_budget": 1024}), rel=0.05)
