"""What a batching policy hears is part of what a fresh one is shown: policies that listen conform."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from headway.core import InstanceView, Sequence, Step, StepPlan, StepResult
from headway.policies.batching.sarathi import Sarathi
from headway.testing import check_batching


@dataclass
class Attentive(Sarathi):
    """Its budget follows from all it has heard; it remembers ids and numbers only."""

    here: set[int] = field(default_factory=set)
    outputs: int = 0

    def on_submit(self, sequence: Sequence) -> None:
        self.here.add(sequence.id)

    def on_step(self, step: Step, result: StepResult) -> None:
        for work, done in zip(step.work, result.done, strict=True):
            self.outputs += done.emitted * (1 + work.sequence.id % 2)

    def on_end(self, sequence: Sequence, outcome: str) -> None:
        self.here.discard(sequence.id)
        self.outputs += len(outcome) + sequence.output_tokens

    def plan(self, view: InstanceView) -> StepPlan:
        self.token_budget = 256 + 16 * len(self.here) + self.outputs % 64
        return StepPlan(super().plan(view).work)

    @property
    def step_tokens(self) -> int:
        return 2048


class Meddling(Attentive):
    def on_end(self, sequence: Sequence, outcome: str) -> None:
        super().on_end(sequence, outcome)
        sequence.output_tokens = 0


@dataclass
class Hoarding(Attentive):
    """Keeps a sequence, which is another object when it is shown again."""

    kept: list[Sequence] = field(default_factory=list)

    def plan(self, view: InstanceView) -> StepPlan:
        known = sum(sequence in self.kept for sequence in view.running)
        self.kept += view.running
        self.outputs += known
        return super().plan(view)


class Patient(Attentive):
    waits: ClassVar[bool] = True

    def plan(self, view: InstanceView) -> StepPlan:
        due_ns = min((s.request.arrival_ns for s in view.waiting), default=0) + 2_000_000
        if not view.running and view.now_ns < due_ns:
            return StepPlan(wake_at_ns=due_ns)
        return super().plan(view)


@pytest.mark.slow
@pytest.mark.parametrize("policy", [Attentive, Patient])
def test_listening_policies_conform(policy: type[Attentive]) -> None:
    check_batching(policy, seeds=[0], live=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "words"), [(Meddling, "changed a sequence"), (Hoarding, "decides differently")]
)
def test_what_listeners_must_not_do(policy: type[Attentive], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_batching(policy, seeds=[0], live=False)
