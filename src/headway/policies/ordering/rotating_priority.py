"""Rotating priorities: users take turns, as a pattern says that nobody can foresee.

Every 1 / `update_frequency` steps all users (sessions; requests that have none) draw a priority anew. `random` draws
are independent; in a `markov` pattern a user keeps its priority with probability `stay` at each update, so that who was
served lately tends to be served on. Who comes first takes the blocks of those behind (`preempts`): the top priorities
that fit run, the others are moved out.

Source: the workload of Shen et al., "FastSwitch", 2024: priorities are synthetic, made to stress context switches; it
is no fairness policy. Differs: draws are a hash of (seed, user, update), so they do not depend on who else is there;
`stay` is ours.
Cost: O(1) per key (`markov`: O(1 / (1 - stay))), once a user and update.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from headway.core import Sequence, Step, StepResult
from headway.errors import OptionError

PATTERNS = ("random", "markov")
_MASK = (1 << 64) - 1


@dataclass
class RotatingPriority:
    """Options: the pattern, updates per step, how sticky `markov` is, and the seed of the draws."""

    dynamic: ClassVar[bool] = True
    preempts: ClassVar[bool] = True

    pattern: str = "random"
    update_frequency: float = 0.04
    stay: float = 0.8
    seed: int = 0
    _steps: int = field(default=0, init=False, repr=False)
    _update: int = field(default=0, init=False, repr=False)
    _drawn: dict[int, float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse what is no pattern."""
        if self.pattern not in PATTERNS:
            raise OptionError(f"pattern is {self.pattern!r}: use {' or '.join(PATTERNS)}")
        if not (0 <= self.update_frequency <= 1 and 0 <= self.stay < 1):
            raise OptionError("update_frequency lies in 0 to 1, stay in 0 to below 1")

    def key(self, sequence: Sequence) -> tuple[float, ...]:
        """Its user's present draw, then arrival."""
        request = sequence.request
        user = 2 * request.id if request.session is None else 2 * request.session + 1
        priority = self._drawn.get(user)
        if priority is None:
            priority = self._drawn[user] = self._draw(user)
        return priority, request.arrival_ns, request.id

    def on_step(self, step: Step, result: StepResult) -> None:
        """Count steps; the repeats of a leap are steps."""
        del step
        self._steps += len(result.ends_ns)
        update = int(self._steps * self.update_frequency)
        if update != self._update:
            self._update = update
            self._drawn.clear()

    def _draw(self, user: int) -> float:
        """A number from 0 to 1 that the update has dealt this user; in `markov`, perhaps an earlier update."""
        update = self._update
        if self.pattern == "markov":
            while update and _hash(self.seed, user, update, 1) < self.stay:
                update -= 1
        return _hash(self.seed, user, update, 0)


def _hash(*parts: int) -> float:
    """SplitMix64 of each part in turn (Steele et al., OOPSLA 2014), as a fraction."""
    state = 0
    for part in parts:
        state = (state ^ part) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state / (_MASK + 1)
