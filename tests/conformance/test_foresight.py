"""Whoever looks at what has not happened yet is found out, whatever kind of policy looks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import pytest

from headway.core import FleetView, InstanceView, Request, Sequence, StepPlan
from headway.core.protocols import ARRIVAL
from headway.policies.admission.unbounded import Unbounded
from headway.policies.batching.sarathi import Sarathi
from headway.policies.memory.recompute import Recompute
from headway.policies.ordering.fcfs import Fcfs
from headway.policies.routing.least_work import LeastWork
from headway.testing import (
    Setup,
    check_admission,
    check_batching,
    check_control,
    check_memory,
    check_ordering,
    check_routing,
    check_speculation,
    run_sim,
    small_workload,
)
from headway.testing.foresight import another_future, check_foresight

pytestmark = pytest.mark.slow


def left(sequence: Sequence) -> int:
    """How long its answer will still be, which only the simulated executor knows."""
    executor: Any = sequence.owner.executor  # type: ignore[attr-defined]
    return int(executor.what.output_tokens[sequence.id]) - sequence.output_tokens


class ShortestAnswer:
    dynamic = True

    def key(self, sequence: Sequence) -> tuple[float, ...]:
        return left(sequence), sequence.id


class OnlyShort(Sarathi):
    def plan(self, view: InstanceView) -> StepPlan:
        works = [view.take(s, 1) for s in view.decoding if left(s) < 30]
        works = works or list(view.take_decodes())
        return StepPlan({"main": [*filter(None, works), *view.take_prefills(tokens=200)]})


class Expecting(Sarathi):
    """Knows the next arrival, which is in the simulator's heap."""

    def plan(self, view: InstanceView) -> StepPlan:
        instance: Any = view._instance  # type: ignore[attr-defined]
        soon = [event for event in instance.clock._heap if event[1] == ARRIVAL]
        self.token_budget = 50 + (soon[0][0] if soon else 0) % 97
        return super().plan(view)


class LongestFirst(Recompute):
    def victims(
        self, view: InstanceView, blocks: int, candidates: Iterable[Sequence]
    ) -> Iterator[tuple[Sequence, str]]:
        return super().victims(view, blocks, sorted(candidates, key=left, reverse=True))


class ToTheEnd:
    needs = frozenset({"drafts"})

    def drafts(self, view: InstanceView, decoding: Iterable[Sequence]) -> list[int]:
        return [min(3, left(sequence) - 1) for sequence in decoding]


class Spreading(LeastWork):
    def route(self, request: Request, view: FleetView) -> str:
        heap: Any = view._clock._heap  # type: ignore[attr-defined]
        return view.instances[len(heap) % 2 + int(max((e[0] for e in heap), default=0)) % 2]


class Choosy(Unbounded):
    def admit(self, request: Request, view: FleetView) -> str | None:
        heap: Any = view._clock._heap  # type: ignore[attr-defined]
        return "later" if any(event[1] == ARRIVAL and event[0] % 2 for event in heap) else None


@pytest.mark.parametrize(
    ("check", "policy"),
    [
        (check_ordering, ShortestAnswer),
        (check_batching, OnlyShort),
        (check_batching, Expecting),
        (check_memory, LongestFirst),
        (check_speculation, ToTheEnd),
        (check_routing, Spreading),
        (check_admission, Choosy),
    ],
)
def test_a_policy_that_looks_ahead_is_found_out(check: Any, policy: type) -> None:
    with pytest.raises(AssertionError, match=f"{policy.__name__}: it knows the future"):
        check(policy, seeds=(), live=False)


@pytest.mark.parametrize(
    ("check", "policy"),
    [
        (check_ordering, Fcfs),
        (check_batching, Sarathi),
        (check_routing, LeastWork),
        (check_control, "llumnix"),
    ],
)
def test_who_does_not_look_ahead_passes(check: Any, policy: Any) -> None:
    check(policy, seeds=(), live=False)


FLEET = {"instances": 3, "report_interval_ns": 50_000_003}


@pytest.mark.parametrize(
    "together",
    [
        {"routing": "dualmap", "control": "dualmap", **FLEET},
        {"routing": "llumnix", "control": "llumnix", **FLEET},
        {"routing": "distserve", "roles": ("prefill", "decode"), **FLEET},
        {"memory": "fastswitch", "ordering": "rotating_priority"},
        {"memory": "swap_blocks", "ordering": "rotating_priority", "batching": "prefill_first"},
        {"batching": "jitserve", "ordering": "uwfq", "speculation": "smartspec"},
        {"batching": "flowprefill", "ordering": "earliest_deadline", "memory": "swap"},
        {"batching": partial(Sarathi, itl_target_ms=30.0), "ordering": "vtc"},
    ],
    ids=lambda together: "+".join(map(str, list(together.values())[:2])),
)
def test_policies_that_work_together_do_not_look_ahead(together: dict[str, Any]) -> None:
    drawn = small_workload(2, 40, 20.0, prefixes=True, turns=1, tenants=2, slack_tokens=150)
    check_foresight(drawn, Setup(blocks=130, **together), until_s=600)


def test_the_other_future_is_another_one_and_has_the_same_past() -> None:
    drawn = small_workload(0, 40, 12.0, abort_share=0.2, slack_tokens=150)
    run = run_sim(drawn, Setup())
    moment_ns = drawn.requests[20].request.arrival_ns
    other = another_future(drawn, run, moment_ns)
    pairs = list(zip(drawn.requests, other.requests, strict=True))
    early = [(one, two) for one, two in pairs if one.request.arrival_ns < moment_ns]
    assert all(one.request == two.request for one, two in early)
    ended = [run.log.ends_ns[one.request.id] < moment_ns for one, _ in early]
    same = [one.output_tokens == two.output_tokens for one, two in early]
    assert any(ended)
    assert same == ended
    late = pairs[len(early) :]
    assert all(one.request.arrival_ns < two.request.arrival_ns for one, two in late)
    for number, time_ns in drawn.aborts.items():
        assert (other.aborts[number] == time_ns) == (time_ns < moment_ns)
