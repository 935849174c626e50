"""A policy file whose annotations are strings, as `from __future__ import annotations` makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from headway.core import InstanceView, StepPlan


@dataclass
class OneByOne:
    """Option: token budget."""

    needs: ClassVar[frozenset[str]] = frozenset()
    token_budget: int = 256

    def plan(self, view: InstanceView) -> StepPlan:
        """One sequence at a time: the first of those that run, else the first that waits."""
        for sequence in (*view.running, *view.waiting[:1]):
            work = view.take(sequence, self.token_budget)
            if work is not None:
                return StepPlan({"main": [work]})
        return StepPlan()
