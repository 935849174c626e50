"""Capacity for experiments: a short bisection with common random numbers, coarse enough for a minute."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

Attainment = Callable[[float], float]
"""Offered rate (requests/s) -> share of requests that attain their SLO."""

STEPS = 6  # halvings of a bracket of one octave: about 1 %


def capacity_of(
    attainment: Attainment, *, first: float, target: float = 0.9, most: float = 4096.0
) -> float:
    """Return the highest rate that keeps `target`, between `first / 4096` and `first * most`.

    0 when none does. Each rate is asked once; the requests of a seed should be the same at every rate.
    """
    low, high = first, first
    if attainment(first) >= target:
        while high < first * most:
            high = low * 2
            if attainment(high) < target:
                break
            low = high
        else:
            return low
    else:
        while low > first / 4096:
            low = high / 2
            if attainment(low) >= target:
                break
            high = low
        else:
            return 0.0
    for _ in range(STEPS):
        middle = sqrt(low * high)
        low, high = (middle, high) if attainment(middle) >= target else (low, middle)
    return low
