"""How long prompts and outputs are: distributions of a token count, each at least 1.

`draws(rng)` is endless; equal generators give equal draws (within one numpy version).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Protocol

import numpy as np

from headway.errors import OptionError
from headway.workload.arrivals import BLOCK, check_positive


class Distribution(Protocol):
    """A distribution of whole numbers, 1 or more."""

    def draws(self, rng: np.random.Generator) -> Iterator[int]:
        """Endless independent draws."""


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Lognormal, rounded up, and cut to at most `most`.

    Cutting moves mass onto `most`: it lowers the mean, not the median.
    """

    median: float
    sigma: float
    most: int | None = None

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_positive("median", self.median)
        check_positive("sigma", self.sigma)
        if self.most is not None:
            check_positive("most", self.most)

    @classmethod
    def of(cls, median: float, mean: float, most: int | None = None) -> LogNormal:
        """Build from median and mean, the two numbers that papers print."""
        if not 0 < median < mean:
            raise OptionError(
                f"median {median} and mean {mean}: expected 0 < median < mean, as of any lognormal"
            )
        return cls(median, math.sqrt(2 * math.log(mean / median)), most)

    def draws(self, rng: np.random.Generator) -> Iterator[int]:
        """Endless independent draws."""
        most = np.inf if self.most is None else self.most
        for _ in repeat(None):
            values = np.ceil(rng.lognormal(math.log(self.median), self.sigma, BLOCK))
            yield from np.clip(values, 1, most).astype(np.int64).tolist()


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every whole number from `least` to `most`, both included."""

    least: int
    most: int

    def __post_init__(self) -> None:
        """Check the range."""
        if not 1 <= self.least <= self.most:
            raise OptionError(
                f"uniform lengths from {self.least} to {self.most}: expected 1 <= least <= most"
            )

    def draws(self, rng: np.random.Generator) -> Iterator[int]:
        """Endless independent draws."""
        for _ in repeat(None):
            yield from rng.integers(self.least, self.most, BLOCK, endpoint=True).tolist()


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same."""

    tokens: int

    def __post_init__(self) -> None:
        """Check the count."""
        check_positive("tokens", self.tokens)

    def draws(self, rng: np.random.Generator) -> Iterator[int]:
        """Endless copies."""
        return repeat(self.tokens)


@dataclass(frozen=True, slots=True)
class Zipf:
    """Zipf below a limit, as in BurstGPT-Perf; for comparison with it, not for realism.

    Its defaults give a mean of 102 tokens and a median of 12, nothing like the traces. They redraw until
    a value is below `limit`; the same distribution is drawn here directly.
    """

    theta: float = 1.1
    limit: int = 1024

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_positive("theta", self.theta)
        if self.limit < 2:
            raise OptionError(
                f"the limit of Zipf is {self.limit}, the least is 2: values lie below it"
            )

    def draws(self, rng: np.random.Generator) -> Iterator[int]:
        """Endless independent draws."""
        weights = np.arange(1, self.limit, dtype=np.float64) ** -self.theta
        below = np.cumsum(weights) / weights.sum()
        below[-1] = 1.0
        for _ in repeat(None):
            yield from (np.searchsorted(below, rng.random(BLOCK), side="right") + 1).tolist()


@dataclass(frozen=True, slots=True)
class Empirical:
    """Draws, with replacement, from values that were seen."""

    values: Sequence[int]

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.values or min(self.values) < 1:
            least = min(self.values, default="missing")
            raise OptionError(
                f"the least empirical length is {least}, expected 1 or more: give lengths that were seen"
            )

    def draws(self, rng: np.random.Generator) -> Iterator[int]:
        """Endless independent draws."""
        values = np.asarray(self.values, dtype=np.int64)
        for _ in repeat(None):
            yield from values[rng.integers(0, len(values), BLOCK)].tolist()
