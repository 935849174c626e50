"""A policy that fails ends a simulation with one sentence that names it: never in silence, never for ever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

import headway
from headway.core import InstanceView, Request, StepPlan
from headway.errors import HeadwayError, OptionError, PlanError
from headway.testing import SmallWorkload
from headway.workload import Offered


@dataclass
class Failing:
    """Control: goes wrong at its first tick."""

    answer: Any = None
    period_ns: int = 50_000_000

    def tick(self, view: Any) -> Any:
        return view.nothing if self.answer == "x" else self.answer


@dataclass
class Odd:
    """Admission."""

    answer: Any

    def admit(self, request: object, view: object) -> Any:
        return self.answer


class Sleeper:
    """Batching: wakes and sleeps."""

    waits = True

    def plan(self, view: InstanceView) -> StepPlan:
        return StepPlan(wake_at_ns=view.now_ns + 100_000_000)


@pytest.mark.parametrize(
    ("policies", "words"),
    [
        ({"control": Failing("x")}, r"Failing: tick\(\) raised AttributeError: .*line \d"),
        ({"control": Failing()}, r"Failing: tick\(\) raised TypeError"),
        ({"control": Failing([5])}, r"Failing: tick\(\) returned 5: return actions"),
        ({"admission": Odd(answer=True)}, r"Odd: admit\(\) returned True: None accepts"),
        ({"admission": Odd("")}, r"Odd: admit\(\) returned '': None accepts"),
        ({"batching": Sleeper}, "Sleeper .*no step in 10 simulated minutes, with 5 requests there"),
    ],
)
def test_a_policy_that_fails_is_named(policies: dict[str, Any], words: str) -> None:
    with pytest.raises(HeadwayError, match=words):
        headway.simulate(requests=5, instances=2, **policies)


def test_a_control_policy_without_a_period_is_refused_before_it_runs() -> None:
    class Timeless:
        def tick(self, view: object) -> tuple[()]:
            return ()

    with pytest.raises(OptionError, match="give it period_ns"):
        headway.simulate(requests=5, control=Timeless)


def prompts(tokens: int, count: int) -> SmallWorkload:
    return SmallWorkload(tuple(Offered(Request(n, n, tokens, 4), 2) for n in range(count)))


def test_a_simulation_that_drops_again_all_it_computes_ends() -> None:
    """Priorities turn sooner than a prompt is computed, and recompute keeps nothing of it."""
    thrashing: dict[str, Any] = {"ordering": "rotating_priority", "gpu": "cpu", "kv_blocks": 800}
    thrashing["options"] = {"sarathi.token_budget": 256, "rotating_priority.update_frequency": 0.1}
    with pytest.raises(PlanError, match=r"RotatingPriority .*no token in 120 simulated minutes"):
        headway.simulate(workload=prompts(12_000, 12), **thrashing)
    kept = headway.simulate(workload=prompts(12_000, 6), memory="fastswitch", **thrashing)
    assert kept.summary["completed"] == 6


def test_a_long_wait_that_ends_is_no_failure() -> None:
    """Half an hour of one prompt on a slow machine, and answers of hours that come in one leap."""
    offers = (Offered(Request(0, 0, 100_000, 4), 2),)
    device: dict[str, Any] = {"gpu": "cpu", "kv_blocks": 7000}
    slow = headway.simulate(workload=SmallWorkload(offers), batching="prefill_first", **device)
    assert slow.summary["duration"] > 1800
    offers = (Offered(Request(0, 0, 100, 100_000), 90_000),)
    slow = headway.simulate(workload=SmallWorkload(offers), **device)
    assert slow.summary["duration"] > 3600


def test_drafts_that_cost_nothing_are_said_to() -> None:
    wishful = headway.simulate(requests=5, speculation="fixed")
    assert [note.rpartition(": ")[2] for note in wishful.notes] == [
        "give a draft model",
        "give an acceptance",
    ]
    modelled = headway.simulate(
        requests=5, speculation="fixed", draft_model="llama-3.2-1b", acceptance=0.7
    )
    assert not modelled.notes
    assert not headway.simulate(requests=5).notes
