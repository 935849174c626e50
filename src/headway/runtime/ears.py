"""Policies that listen: an instance tells those that ask of arrivals, landed steps and ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from headway.core.plan import Step, StepResult
from headway.core.sequence import Sequence
from headway.errors import PlanError
from headway.runtime.blame import raised


class Ears:
    """The listeners among an instance's policies. What one raises becomes a `PlanError` that names it."""

    def __init__(self, policies: Iterable[object]) -> None:
        mine = list(policies)
        self._submitted = _methods(mine, "on_submit")
        self._landed = _methods(mine, "on_step")
        self._ended = _methods(mine, "on_end")
        self.hear_steps = bool(self._landed)

    def submitted(self, sequence: Sequence) -> None:
        """A sequence has come in, from a client or another instance; it is in no queue yet."""
        for listener in self._submitted:
            _tell(listener, sequence)

    def landed(self, step: Step, result: StepResult) -> None:
        """A step, or some repeats of one, has landed; nothing is applied yet."""
        for listener in self._landed:
            _tell(listener, step, result)

    def ended(self, sequence: Sequence, outcome: str) -> None:
        """A sequence has ended here, whatever the outcome."""
        for listener in self._ended:
            _tell(listener, sequence, outcome)


def _methods(policies: Iterable[object], name: str) -> list[Callable[..., None]]:
    return [getattr(policy, name) for policy in policies if hasattr(policy, name)]


def _tell(listener: Callable[..., None], *arguments: Any) -> None:
    try:
        listener(*arguments)
    except Exception as error:
        owner = getattr(listener, "__self__", listener)
        method = getattr(listener, "__name__", "listener")
        raise PlanError(raised(owner, method, error)) from error
