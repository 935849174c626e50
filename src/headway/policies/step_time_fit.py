"""How long a step takes, fitted to the steps that have run, where the world predicts nothing.

T = c0 + c_tok · tokens + c_draft · longest draft + c_ctx · context tokens, by least squares in which old steps fade.

Source: the linear step-time model of SmartSpec. Differs: fitted while serving, not before; negative costs count as 0.
Cost: O(1) per step.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

FEATURES = 4
SCALES = (1.0, 64.0, 4.0, 65_536.0)  # that make the unknowns alike in size
RIDGE = 1e-4  # so that what never varied costs nothing


def _zeros() -> list[list[float]]:
    return [[0.0] * (FEATURES + 1) for _ in range(FEATURES)]


@dataclass
class StepTimeFit:
    """`keep` is what is left of a step's weight when the next has run."""

    keep: float = 0.99
    steps: int = 0
    _sums: list[list[float]] = field(
        default_factory=_zeros, init=False, repr=False
    )  # normal equations
    _costs: list[float] | None = field(default=None, init=False, repr=False)

    def learn(self, tokens: int, longest: int, context: int, time_ns: int) -> None:
        """One step took `time_ns`."""
        row = _features(tokens, longest, context)
        row.append(float(time_ns))
        for i, sums in enumerate(self._sums):
            for j, value in enumerate(row):
                sums[j] = sums[j] * self.keep + row[i] * value
        self.steps += 1
        self._costs = None

    def time_ns(self, tokens: int, longest: int, context: int) -> float:
        """What a step should take; above 0."""
        if self._costs is None:
            self._costs = [max(0.0, cost) for cost in _solve(self._sums)]
        features = _features(tokens, longest, context)
        return max(1.0, sum(a * b for a, b in zip(self._costs, features, strict=True)))


def _features(tokens: int, longest: int, context: int) -> list[float]:
    return [
        value / scale for value, scale in zip((1, tokens, longest, context), SCALES, strict=True)
    ]


def _solve(sums: Seq[Seq[float]]) -> list[float]:
    """Gaussian elimination; the ridge keeps the matrix positive definite."""
    rows = [list(row) for row in sums]
    for i, row in enumerate(rows):
        row[i] += RIDGE * max(1.0, row[i])
    for i in range(FEATURES):
        for k in range(i + 1, FEATURES):
            factor = rows[k][i] / rows[i][i]
            for j in range(i, FEATURES + 1):
                rows[k][j] -= factor * rows[i][j]
    costs = [0.0] * FEATURES
    for i in reversed(range(FEATURES)):
        rest = sum(rows[i][j] * costs[j] for j in range(i + 1, FEATURES))
        costs[i] = (rows[i][FEATURES] - rest) / rows[i][i]
    return costs
