"""When requests arrive: stationary processes, as integer nanoseconds.

A process is a value; `times(rng)` is a fresh realisation, endless unless said otherwise. Equal generators
give equal times (within one numpy version). A rate alone says little about load: always report the CV of
the gaps beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, chain, count, repeat
from typing import Protocol

import numpy as np
import numpy.typing as npt

from headway.core import NS_PER_S
from headway.errors import OptionError

BLOCK = 4096  # numbers drawn at a time


class Arrivals(Protocol):
    """An arrival process."""

    def times(self, rng: np.random.Generator) -> Iterator[int]:
        """Arrival times in ns since the run began, never falling."""


@dataclass(frozen=True, slots=True)
class Poisson:
    """Independent users: exponential gaps, CV 1."""

    rate_rps: float

    def __post_init__(self) -> None:
        """Check the rate."""
        check_positive("rate_rps", self.rate_rps)

    def gaps(self, rng: np.random.Generator) -> Iterator[int]:
        """Gaps in ns, the first one from time 0."""
        scale_ns = NS_PER_S / self.rate_rps
        return _whole(lambda: rng.exponential(scale_ns, BLOCK))

    def times(self, rng: np.random.Generator) -> Iterator[int]:
        """Arrival times in ns."""
        return accumulate(self.gaps(rng))


@dataclass(frozen=True, slots=True)
class Gamma:
    """Gamma gaps of a chosen coefficient of variation: below 1 smoother than Poisson, above 1 burstier.

    Shape is cv^-2 and scale cv^2 / rate: BurstGPT's alpha is the shape, and its beta is a scale in one
    place and a rate in another, which is why neither is a parameter here.
    """

    rate_rps: float
    cv: float

    def __post_init__(self) -> None:
        """Check the rate and CV."""
        check_positive("rate_rps", self.rate_rps)
        check_positive("cv", self.cv)

    def gaps(self, rng: np.random.Generator) -> Iterator[int]:
        """Gaps in ns, the first one from time 0."""
        shape = self.cv**-2
        scale_ns = NS_PER_S / self.rate_rps / shape
        return _whole(lambda: rng.gamma(shape, scale_ns, BLOCK))

    def times(self, rng: np.random.Generator) -> Iterator[int]:
        """Arrival times in ns."""
        return accumulate(self.gaps(rng))


@dataclass(frozen=True, slots=True)
class Constant:
    """One request every 1 / rate seconds, the first one gap after time 0; each time rounded on its own."""

    rate_rps: float

    def __post_init__(self) -> None:
        """Check the rate."""
        check_positive("rate_rps", self.rate_rps)

    def times(self, rng: np.random.Generator) -> Iterator[int]:
        """Arrival times in ns."""
        gap_ns = NS_PER_S / self.rate_rps
        return (round(k * gap_ns) for k in count(1))


@dataclass(frozen=True, slots=True)
class AtOnce:
    """Everybody at time 0: an offline batch, or the source of a closed loop."""

    def times(self, rng: np.random.Generator) -> Iterator[int]:
        """Zeros."""
        return repeat(0)


def check_positive(name: str, value: float) -> None:
    """Raise OptionError unless a value is above 0 and finite."""
    if not 0 < value < float("inf"):
        raise OptionError(
            f"{name} is {value}, it must be above 0 and finite: choose another {name}"
        )


def _whole(draw: Callable[[], npt.NDArray[np.float64]]) -> Iterator[int]:
    """Endless draws, rounded to whole nanoseconds, a block at a time."""
    blocks = (np.rint(draw()).astype(np.int64).tolist() for _ in repeat(None))
    return chain.from_iterable(blocks)
