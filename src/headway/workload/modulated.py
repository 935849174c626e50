"""When requests arrive if the rate itself changes: over the day, or in bursts.

Both are an exact change of time: points of a unit-rate process are placed where the integral of the rate
reaches them. The rate is linear within a segment, so that place is the root of a quadratic, and no
candidate is thrown away as thinning would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, pairwise, repeat
from typing import NamedTuple

import numpy as np

from headway.core import NS_PER_S
from headway.errors import OptionError
from headway.workload.arrivals import BLOCK, check_positive

Knots = Sequence[tuple[float, float]]
"""(hour of the day, weight) pairs from hour 0 to hour 24, linear in between."""

CONVERSATION_DAY: Knots = (
    (0, 45), (4, 5), (7, 5), (10, 160), (11, 160), (12, 70), (15, 185), (16, 185), (18, 80), (20, 115),
    (24, 45),
)  # fmt: skip
"""Two peaks and a lunch dip: requests per hour of ChatGPT conversations, read off BurstGPT's figures."""

_DAY_HOURS = 24
_WEEK_DAYS, _WORK_DAYS = 7, 5
_DAY_MINUTES = 1440


class Segment(NamedTuple):
    """A stretch of time in which the rate is linear."""

    length_s: float
    start_rps: float
    end_rps: float


@dataclass(frozen=True, slots=True)
class Diurnal:
    """A rate curve over the day times Gamma gaps.

    `rate_rps` is the mean over a weekday. `curve` holds knots, or is a function of the hour, which is
    sampled once a minute; its unit does not matter. Day 0 is a Monday; Saturday and Sunday are scaled by
    `weekend` (BurstGPT: about 0.5). `day_s` shortens the day for demonstrations.

    The CV is that of the gaps after removing the curve; over a day the gaps vary more.
    """

    rate_rps: float
    cv: float = 1.0
    curve: Knots | Callable[[float], float] = CONVERSATION_DAY
    weekend: float = 1.0
    start_hour: float = 0.0
    day_s: float = 86_400.0

    def __post_init__(self) -> None:
        """Check the numbers and the curve."""
        for name in ("rate_rps", "cv", "weekend", "day_s"):
            check_positive(name, getattr(self, name))
        if not 0 <= self.start_hour < _DAY_HOURS:
            raise OptionError(
                f"start_hour is {self.start_hour}, a day has hours 0 to 24: choose one below 24"
            )
        hours = [hour for hour, _ in self._knots()]
        rising = all(a < b for a, b in pairwise(hours))
        if len(hours) < 2 or hours[0] != 0 or hours[-1] != _DAY_HOURS or not rising:
            raise OptionError(
                f"the curve's hours are {hours}, expected rising ones from 0 to 24: complete the curve"
            )
        if not all(0 <= weight < math.inf for _, weight in self._knots()) or self._mean() <= 0:
            raise OptionError(
                "the curve has a negative, infinite or no weight: expected 0 or more, and some above 0"
            )

    def times(self, rng: np.random.Generator) -> Iterator[int]:
        """Arrival times in ns."""
        return warp(_unit_gaps(rng, self.cv), self._segments())

    def rate_at(self, hour: float) -> float:
        """Rate in requests per second at an hour of a weekday."""
        hours, weights = zip(*self._knots(), strict=True)
        return float(np.interp(hour % _DAY_HOURS, hours, weights)) * self.rate_rps / self._mean()

    def _knots(self) -> Knots:
        if callable(self.curve):
            hours = np.linspace(0, _DAY_HOURS, _DAY_MINUTES + 1).tolist()
            return [(hour, float(self.curve(hour))) for hour in hours]
        return self.curve

    def _mean(self) -> float:
        area = sum((b - a) * (u + v) / 2 for (a, u), (b, v) in pairwise(self._knots()))
        return area / _DAY_HOURS

    def _segments(self) -> Iterator[Segment]:
        knots, scale, hour_s = self._knots(), self.rate_rps / self._mean(), self.day_s / _DAY_HOURS
        for day in count():
            factor = scale * (1.0 if day % _WEEK_DAYS < _WORK_DAYS else self.weekend)
            for (begin, u), (end, v) in pairwise(knots):
                at, weight = begin, u
                if day == 0 and begin < self.start_hour:
                    if end <= self.start_hour:
                        continue
                    at = self.start_hour
                    weight = u + (v - u) * (at - begin) / (end - begin)
                yield Segment((end - at) * hour_s, weight * factor, v * factor)


@dataclass(frozen=True, slots=True)
class Bursts:
    """On/off traffic (a two-state Markov-modulated Poisson process), like BurstGPT's API calls.

    Times in a state are exponential with means `on_s` and `off_s`; the first state is drawn in proportion
    to them, so the process is stationary from time 0.
    """

    on_rps: float
    off_rps: float
    on_s: float
    off_s: float

    def __post_init__(self) -> None:
        """Check the numbers; `off_rps` alone may be 0."""
        for name in ("on_rps", "on_s", "off_s"):
            check_positive(name, getattr(self, name))
        if not 0 <= self.off_rps < math.inf:
            raise OptionError(
                f"off_rps is {self.off_rps}, it must be 0 or more: 0 is silence between bursts"
            )

    @property
    def rate_rps(self) -> float:
        """Mean rate over both states."""
        requests = self.on_rps * self.on_s + self.off_rps * self.off_s
        return requests / (self.on_s + self.off_s)

    def times(self, rng: np.random.Generator) -> Iterator[int]:
        """Arrival times in ns."""
        gaps, states = rng.spawn(2)
        return warp(_unit_gaps(gaps, 1.0), self._segments(states))

    def _segments(self, rng: np.random.Generator) -> Iterator[Segment]:
        on = bool(rng.random() * (self.on_s + self.off_s) < self.on_s)
        while True:
            mean_s, rate_rps = (self.on_s, self.on_rps) if on else (self.off_s, self.off_rps)
            yield Segment(float(rng.exponential(mean_s)), rate_rps, rate_rps)
            on = not on


def warp(gaps: Iterator[float], segments: Iterable[Segment]) -> Iterator[int]:
    """Place a unit-rate process under a rate: yields ns, never falling; ends with the segments.

    Point n lies where the integral of the rate from 0 reaches the sum of the first n gaps.
    """
    begin_ns = 0
    owed = next(gaps)  # requests' worth of rate until the next point
    for length_s, start_rps, end_rps in segments:
        length_ns = round(length_s * NS_PER_S)
        area = length_s * (start_rps + end_rps) / 2
        slope = (end_rps - start_rps) / length_s if length_s else 0.0
        used = 0.0
        while used + owed <= area:
            used += owed
            # The root of start·t + slope/2·t² = used, in the form that does not cancel.
            speed = start_rps + math.sqrt(max(start_rps * start_rps + 2 * slope * used, 0.0))
            after_ns = round(2 * used / speed * NS_PER_S) if speed else 0
            yield begin_ns + min(after_ns, length_ns)
            owed = next(gaps)
        owed -= area - used
        begin_ns += length_ns


def _unit_gaps(rng: np.random.Generator, cv: float) -> Iterator[float]:
    """Gamma gaps of mean 1."""
    shape = cv**-2
    for _ in repeat(None):
        yield from rng.gamma(shape, 1 / shape, BLOCK).tolist()
