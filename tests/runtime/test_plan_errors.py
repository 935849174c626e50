"""A bad plan ends every request as `returned`, names its policy, and never the process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from headway.core import InstanceView, StepPlan, Work
from headway.core.fleet import RETURNED
from headway.core.sequence import Sequence
from headway.errors import MissingCapabilityError, PlanError
from headway.policies.batching.sarathi import Sarathi
from headway.testing import Run, Setup, run_sim, small_workload

Plan = Callable[[InstanceView], StepPlan]


def idle(_: InstanceView) -> StepPlan:
    return StepPlan()


def raises(_: InstanceView) -> StepPlan:
    raise ZeroDivisionError("a bug")


def unknown_lane(view: InstanceView) -> StepPlan:
    return StepPlan({"other": view.take_prefills(tokens=100)})


def too_many_tokens(view: InstanceView) -> StepPlan:
    works = [view.take(sequence, 10_000) for sequence in view.waiting]
    return StepPlan({"main": [work for work in works if work]})


def by_hand(view: InstanceView) -> StepPlan:
    return StepPlan({"main": [Work(view.waiting[0], view.waiting[0].total_tokens + 1)]})


def of_another(view: InstanceView) -> StepPlan:
    return StepPlan({"main": [Work(Sequence(view.waiting[0].request), 1)]})


def twice(view: InstanceView) -> StepPlan:
    work = view.take(view.waiting[0], 10)
    assert work
    return StepPlan({"main": [work, work]})


def too_many_blocks(view: InstanceView) -> StepPlan:
    return StepPlan({"main": [Work(sequence, 330) for sequence in view.waiting]})


def starts_in_the_middle(view: InstanceView) -> StepPlan:
    work = view.take(view.waiting[0], 10, layers=(2, view.layers))
    assert work
    return StepPlan({"main": [work]})


def beyond_the_model(view: InstanceView) -> StepPlan:
    work = view.take(view.waiting[0], 10, layers=(0, view.layers + 1))
    assert work
    return StepPlan({"main": [work]})


def sheds_a_stranger(view: InstanceView) -> StepPlan:
    return StepPlan(
        {"main": view.take_prefills(tokens=100)}, shed=[Sequence(view.waiting[0].request)]
    )


def works_on_shed(view: InstanceView) -> StepPlan:
    return StepPlan({"main": view.take_prefills(tokens=100)}, shed=[view.waiting[0]])


def not_a_plan(_: InstanceView) -> StepPlan:
    return None  # type: ignore[return-value]


def works_alone(view: InstanceView) -> StepPlan:
    return view.take_prefills(tokens=100)  # type: ignore[return-value]


def no_lane(view: InstanceView) -> StepPlan:
    return StepPlan(view.take_prefills(tokens=100))  # type: ignore[arg-type]


def refused_work(view: InstanceView) -> StepPlan:
    return StepPlan({"main": [view.take(view.waiting[0], 10), None]})  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (idle, "stays idle"),
        (raises, "ZeroDivisionError: a bug"),
        (unknown_lane, "lane 'other'"),
        (too_many_tokens, "tokens in a step"),
        (by_hand, "remain"),
        (of_another, "only waiting and running"),
        (twice, "two places"),
        (too_many_blocks, "KV blocks too many"),
        (starts_in_the_middle, "starts at layer 2"),
        (beyond_the_model, "layers"),
        (sheds_a_stranger, "sheds"),
        (works_on_shed, "two places"),
        (not_a_plan, "plan() returned NoneType: return StepPlan({lane: works})"),
        (works_alone, "return StepPlan({lane: works})"),
        (no_lane, "give it {lane: works}"),
        (refused_work, "leave out what take() refused"),
        (raises, "(test_plan_errors.py, line "),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_plan_returns_every_request_and_names_the_policy(plan: Plan, words: str) -> None:
    @dataclass
    class Careless:
        step_tokens: int = 2000

        def plan(self, view: InstanceView) -> StepPlan:
            if len(view.waiting) > 5:
                return plan(view)
            return StepPlan(wake_at_ns=view.now_ns + 1_000_000_000)

    blocks = 100 if plan is too_many_blocks else 160
    workload = small_workload(1, 12, 50.0, prompt_tokens=(400, 500))
    run = run_sim(workload, Setup(Careless, blocks=blocks))
    assert run.stopped.startswith("Careless: ")
    assert words in run.stopped
    _all_came_back(run)


def _all_came_back(run: Run) -> None:
    outcomes = set(run.log.ends.values())
    assert len(run.log.ends) == len(run.offered)
    assert RETURNED in outcomes
    assert all(o == RETURNED or o.startswith("rejected: ") for o in outcomes)
    (instance,) = run.instances
    assert isinstance(instance.stopped, PlanError)
    assert instance.pool.free == instance.pool.total


def test_bad_plan_while_steps_fly_returns_their_blocks_when_they_land() -> None:
    @dataclass
    class Tired(Sarathi):
        steps: int = 0

        def plan(self, view: InstanceView) -> StepPlan:
            self.steps += 1
            return super().plan(view) if self.steps < 20 else StepPlan({"nowhere": []})

    lanes = type("Tired", (Tired,), {"lanes": {"main": 2}})
    for policy in (Tired, lanes):
        run = run_sim(small_workload(1, 12, 50.0), Setup(policy))
        assert run.stopped.startswith("Tired: ")
        (instance,) = run.instances
        assert not instance.busy
        assert instance.pool.free == instance.pool.total


def test_resumed_chunk_must_be_the_one_that_was_interrupted() -> None:
    @dataclass
    class Forgetful:
        def plan(self, view: InstanceView) -> StepPlan:
            if view.prefilling and view.prefilling[0].partial:
                return StepPlan({"main": [Work(view.prefilling[0], 7)]})
            work = view.take((*view.prefilling, *view.waiting)[0], 10, layers=(0, 2))
            return StepPlan({"main": [work] if work else []})

    run = run_sim(small_workload(1, 1), Setup(Forgetful))
    assert "its chunk resumes at (10, 2)" in run.stopped


def test_missing_capability_is_refused_by_name() -> None:
    policy = type("Fancy", (Sarathi,), {"needs": frozenset({"operators"})})
    with pytest.raises(MissingCapabilityError, match="Fancy needs operators"):
        run_sim(small_workload(1, 1), Setup(policy))


def test_memory_policy_that_raises_is_a_plan_error() -> None:
    class Broken:
        def victims(self, *args: object) -> list[tuple[Sequence, str]]:
            raise LookupError("no idea")

    run = run_sim(small_workload(1, 12, 50.0), Setup(memory=Broken, blocks=130))
    assert run.stopped.startswith("Broken: victims() raised LookupError: no idea (test_plan_errors")
    _some_finished = set(run.log.ends.values())
    assert RETURNED in _some_finished


def test_what_a_memory_or_speculation_policy_answers_is_not_blamed_on_batching() -> None:
    class NoPair:
        def victims(self, view: object, blocks: int, candidates: list[Sequence]) -> list[Sequence]:
            return list(candidates)

    class Half:
        def drafts(self, view: object, decoding: object) -> float:
            return 1.5

    run = run_sim(small_workload(1, 12, 50.0), Setup(memory=NoPair, blocks=130))
    assert run.stopped.startswith("NoPair: victims() raised TypeError: <Sequence ")
    run = run_sim(small_workload(1, 2), Setup(speculation=Half))
    assert run.stopped.startswith("Half: drafts() raised TypeError")
