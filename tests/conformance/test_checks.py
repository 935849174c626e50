"""The conformance checks catch what they are there to catch, and say so in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count

import pytest

from headway.core import FleetView, InstanceView, Request, Sequence, StepPlan
from headway.errors import UnknownNameError
from headway.policies.batching.sarathi import Sarathi
from headway.policies.ordering.fcfs import Fcfs
from headway.policies.routing.least_work import LeastWork
from headway.testing import (
    check_admission,
    check_batching,
    check_memory,
    check_ordering,
    check_policy,
    check_routing,
)

pytestmark = pytest.mark.slow
_calls = count()


class Lazy(Sarathi):
    """Skips every third plan."""

    calls = 0

    def plan(self, view: InstanceView) -> StepPlan:
        self.calls += 1
        if self.calls % 3 == 0:
            return StepPlan(wake_at_ns=view.now_ns + 1_000_000)
        return super().plan(view)


class Idle(Sarathi):
    def plan(self, view: InstanceView) -> StepPlan:
        return super().plan(view) if len(view.waiting) < 3 else StepPlan()


class Tampering(Sarathi):
    def plan(self, view: InstanceView) -> StepPlan:
        for sequence in view.waiting:
            sequence.preemptions += 1
        return super().plan(view)


class Restless(Sarathi):
    """Says steady, and takes turns between two budgets."""

    turn = 0

    def plan(self, view: InstanceView) -> StepPlan:
        self.turn += 1
        self.token_budget = 200 if self.turn % 2 else 300
        return super().plan(view)


class Moody(Sarathi):
    """Depends on how often anybody was ever asked."""

    def plan(self, view: InstanceView) -> StepPlan:
        self.token_budget = 256 + next(_calls) % 7
        return super().plan(view)


class Greedy(Sarathi):
    def plan(self, view: InstanceView) -> StepPlan:
        works = [view.take(s, 5000) for s in (*view.running, *view.waiting)]
        return StepPlan({"main": [work for work in works if work]})


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (Lazy, "planned nothing although work could run"),
        (Idle, "stays idle while there is work"),
        (Tampering, "changed the books behind its view"),
        (Restless, "says steady but is not"),
        (Moody, "decides differently|not deterministic"),
        (Greedy, "tokens in a step"),
    ],
)
def test_a_batching_policy_that_breaks_a_promise_is_told_which(
    policy: type[Sarathi], words: str
) -> None:
    with pytest.raises(AssertionError, match=f"{policy.__name__}: .*({words})"):
        check_batching(policy, live=False)


def test_waiting_is_fine_for_who_says_so() -> None:
    class Patient(Sarathi):
        def plan(self, view: InstanceView) -> StepPlan:
            young = [s for s in view.waiting if view.now_ns < s.request.arrival_ns + 2_000_000]
            if young and not view.running:
                return StepPlan(wake_at_ns=young[0].request.arrival_ns + 2_000_000)
            return StepPlan(super().plan(view).work)

    check_batching(Patient, may_wait=True, seeds=[0], live=False)


class Moving(Fcfs):
    def key(self, sequence: Sequence) -> tuple[float, ...]:
        return (sequence.output_tokens, sequence.request.id)


class Tied(Fcfs):
    def key(self, sequence: Sequence) -> tuple[float, ...]:
        return (sequence.request.prompt_tokens // 1000,)


@pytest.mark.parametrize(("policy", "words"), [(Moving, "dynamic = True"), (Tied, "share key")])
def test_an_ordering_policy_that_breaks_a_promise_is_told_which(
    policy: Callable[[], object], words: str
) -> None:
    with pytest.raises(AssertionError, match=words):
        check_ordering(policy, live=False)


class Ruthless:
    def victims(
        self, view: InstanceView, blocks: int, candidates: Iterable[Sequence]
    ) -> Iterator[tuple[Sequence, str]]:
        for sequence in view.running:
            yield sequence, "recompute"


class Burning:
    def victims(
        self, view: InstanceView, blocks: int, candidates: Iterable[Sequence]
    ) -> Iterator[tuple[Sequence, str]]:
        for sequence in candidates:
            yield sequence, "burn"


@pytest.mark.parametrize(
    ("policy", "words"), [(Ruthless, "no candidate"), (Burning, "no way to take blocks")]
)
def test_a_memory_policy_that_breaks_a_promise_is_told_which(
    policy: Callable[[], object], words: str
) -> None:
    with pytest.raises(AssertionError, match=words):
        check_memory(policy, live=False)


class Astray(LeastWork):
    def route(self, request: Request, view: FleetView) -> str:
        return "elsewhere"


@dataclass
class Drifting(LeastWork):
    first: int = field(default_factory=lambda: next(_calls))

    def route(self, request: Request, view: FleetView) -> str:
        return view.instances[0 if (self.first + request.id) % 3 else 1]


@pytest.mark.parametrize(
    ("policy", "words"), [(Astray, "takes no requests"), (Drifting, "not deterministic")]
)
def test_a_routing_policy_that_breaks_a_promise_is_told_which(
    policy: Callable[[], object], words: str
) -> None:
    with pytest.raises(AssertionError, match=words):
        check_routing(policy, live=False)


class Silent:
    def admit(self, request: Request, view: FleetView) -> str | None:
        return "" if request.id % 2 else None


class Raising(LeastWork):
    def route(self, request: Request, view: FleetView) -> str:
        raise LookupError("no map")


def test_a_fleet_policy_that_raises_is_overheard_by_nobody() -> None:
    with pytest.raises(AssertionError, match=r"Raising: route\(\) raised LookupError: no map"):
        check_routing(Raising, live=False)


def test_an_admission_policy_must_give_reasons() -> None:
    with pytest.raises(AssertionError, match="a reason in words"):
        check_admission(Silent, live=False)


def test_unknown_kinds_and_policies_are_refused_with_a_way_out() -> None:
    with pytest.raises(UnknownNameError, match="did you mean batching"):
        check_policy("batchin", "sarathi")
    with pytest.raises(UnknownNameError, match="did you mean sarathi"):
        check_policy("batching", "sarath")
