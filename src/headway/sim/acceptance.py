"""Which draft tokens are right, where nothing is computed.

A draft token is right with its request's probability, independently of all others. Draws are a function of (seed,
request, position), never of a stream: they survive preemption, and every draft length meets the same tokens.

Differs from real drafters, whose hits cluster.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from headway.errors import OptionError

_WORD = (1 << 64) - 1
_KEPT = 4096  # requests whose probability is remembered; it is a function, so forgetting costs only time


@dataclass(slots=True)
class Acceptance:
    """`mean` of all requests, and the standard deviation among them: Beta distributed where it is above 0."""

    mean: float
    spread: float = 0.0
    seed: int = 0
    _of: dict[int, float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse what no Beta distribution has."""
        if not 0 <= self.mean <= 1:
            raise OptionError(f"acceptance is {self.mean}: give a probability, 0 to 1")
        most = self.mean * (1 - self.mean)
        if self.spread < 0 or (self.spread and self.spread**2 >= most):
            raise OptionError(
                f"acceptance_spread is {self.spread}: with mean {self.mean} give less than {most**0.5:.3g}"
            )

    def of(self, request_id: int) -> float:
        """A request's own probability."""
        if not self.spread:
            return self.mean
        known = self._of.get(request_id)
        if known is None:
            size = self.mean * (1 - self.mean) / self.spread**2 - 1
            rng = Random(_mixed(self.seed, request_id, -1))
            known = rng.betavariate(self.mean * size, (1 - self.mean) * size)
            if len(self._of) >= _KEPT:
                self._of.clear()
            self._of[request_id] = known
        return known

    def accepted(self, request_id: int, position: int, draft_tokens: int) -> int:
        """How many of the drafts for output positions `position` and on are right before the first wrong one."""
        limit = self.of(request_id) * (_WORD + 1)
        for count in range(draft_tokens):
            if _mixed(self.seed, request_id, position + count) >= limit:
                return count
        return draft_tokens


def _mixed(seed: int, request_id: int, position: int) -> int:
    """64 random bits (the finaliser of SplitMix64)."""
    x = seed * 0x9E3779B97F4A7C15 + request_id * 0xD1B54A32D192ED03 + position * 0xABC98388FB8FAC03
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _WORD
    return x ^ (x >> 31)
