"""The highest rate at which the SLO is kept: a bracket, then bisection of the rate's logarithm.

Every rate offers the same requests from the same seed, only closer together (common random numbers), so
attainment hardly jitters between rates. With several jobs the next halvings are tried at the same time,
whatever they turn out to be: the answer does not depend on the number of jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass, replace
from functools import partial
from math import log2, sqrt

from headway.api.parallel import Workers
from headway.api.runner import Progress, run
from headway.api.scenario import NO_PARTS, Parts, Scenario
from headway.api.workload_of import rate_of
from headway.errors import OptionError

TOLERANCE = 0.02  # the rate just above the answer that failed is at most so much higher
_UNSTEADY = (
    "capacity: at {:.4g} requests/s the queue still grew when the requests ran out, so a longer run may "
    "hold less: offer more requests"
)
_MOST_DOUBLINGS = 16
_SLOWER = (2.0, 8.0, 128.0, 32_768.0)  # times slower than the first rate


@dataclass(frozen=True, slots=True)
class Capacity:
    """`rate_rps` kept the target and `failed_rps` did not; `tried` holds every (rate, attainment).

    `rate_rps` is 0 when not even a nearly idle system keeps it, None when no rate breaks it; `note` says so.
    """

    rate_rps: float | None
    failed_rps: float | None
    tried: tuple[tuple[float, float], ...]
    note: str = ""


def capacity(
    scenario: Scenario,
    parts: Parts = NO_PARTS,
    *,
    target: float = 0.9,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Capacity:
    """Search for the highest rate with an SLO attainment of at least `target`, to 2 %.

    Raises:
        OptionError: the scenario has no rate to change, or `target` is no share above 0.
    """
    if not 0 < target <= 1:
        raise OptionError(f"target is {target}: give a share above 0 and at most 1, such as 0.9")
    if scenario.sessions:
        raise OptionError(
            "capacity is counted in requests, and sessions decide how many: leave out one of them"
        )
    if scenario.concurrency is not None or parts.workload is not None:
        what = "a closed loop" if parts.workload is None else "a workload object"
        raise OptionError(
            f"capacity changes the rate, which {what} does not have: give a rate or a trace"
        )
    with Workers(jobs) as workers:
        search = _Search(partial(attainment_at, scenario, parts), target, workers, jobs, progress)
        found = search.find(rate_of(scenario))
    if not found.rate_rps:
        return found
    verdict = run(scenario.at(rate_rps=found.rate_rps, rate_scale=1.0), parts).summary[
        "offered_exceeds_capacity"
    ]
    return found if verdict is None else replace(found, note=_UNSTEADY.format(found.rate_rps))


class _Search:
    def __init__(
        self,
        attainment: Callable[[float], float],
        target: float,
        workers: Workers,
        jobs: int,
        progress: Progress | None,
    ) -> None:
        self._attainment, self._target = attainment, target
        self._workers, self._jobs, self._progress = workers, jobs, progress
        self._known: dict[float, float] = {}

    def find(self, first: float) -> Capacity:
        """Bracket, then halve."""
        low = high = first
        if self._keeps(first):
            for _ in range(_MOST_DOUBLINGS):
                high = low * 2
                if not self._keeps(high):
                    break
                low = high
            else:
                note = (
                    f"capacity: the SLO is kept even at {low:.4g} requests/s, where all requests come "
                    "almost at once: offer more requests, or promise more"
                )
                return Capacity(None, None, self._tried(), note)
        else:
            for slower in _SLOWER:
                low = first / slower
                if self._keeps(low):
                    break
                high = low
            else:
                best = max(self._known.values())
                note = (
                    f"capacity: attainment stays at {best:.1%} even at {low:.2g} requests/s, so the "
                    "target cannot be kept at any rate: promise less, or use a faster device"
                )
                return Capacity(0.0, low, self._tried(), note)
        low, high = self._bisect(low, high)
        return Capacity(low, high, self._tried())

    def _bisect(self, low: float, high: float) -> tuple[float, float]:
        begun = log2(high / low)
        while high / low > 1 + TOLERANCE:
            self._try(self._likely(low, high))
            middle = sqrt(low * high)
            low, high = (middle, high) if self._keeps(middle) else (low, middle)
            self._tell(begun - log2(high / low), begun)
        return low, high

    def _likely(self, low: float, high: float) -> list[float]:
        """Middles of the next halvings, as many levels as there are jobs for."""
        if high / low <= 1 + TOLERANCE:
            return []
        levels = max(1, (self._jobs + 1).bit_length() - 1)
        middles, brackets = [], [(low, high)]
        for _ in range(levels):
            halves = []
            for below, above in brackets:
                middle = sqrt(below * above)
                middles.append(middle)
                halves += [(below, middle), (middle, above)]
            brackets = halves
        return middles

    def _keeps(self, rate: float) -> bool:
        self._try([rate])
        return self._known[rate] >= self._target

    def _try(self, rates: Seq[float]) -> None:
        new = [rate for rate in rates if rate not in self._known]
        for index, attainment in self._workers.each(self._attainment, new):
            self._known[new[index]] = attainment
            self._tell(0, None)

    def _tell(self, done: float, total: float | None) -> None:
        if self._progress is not None:
            label = f"searching capacity, {len(self._known)} rates tried"
            self._progress(label, done, total)

    def _tried(self) -> tuple[tuple[float, float], ...]:
        return tuple(sorted(self._known.items()))


def attainment_at(scenario: Scenario, parts: Parts, rate_rps: float) -> float:
    """Run the scenario at a rate and return its SLO attainment."""
    changed = scenario.at(rate_rps=rate_rps, rate_scale=1.0)
    attainment: float | None = run(changed, parts).summary["slo_attainment"]
    return attainment or 0.0
