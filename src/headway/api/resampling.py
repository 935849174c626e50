"""Intervals for a replay: again with another scatter, another pace of the machine, and other requests.

What was measured is one draw of many that could have been. Each draw scatters step times as the run's own were
scattered, changes the pace by a resample of the run's own drift, and resamples requests in blocks of time (Künsch,
"The jackknife and the bootstrap for general stationary observations", 1989), since neighbours share a queue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass
from random import Random

import numpy as np

from headway.api.judgement import METRICS, Judged, judge, relative
from headway.api.replay import Case, Setting, replay
from headway.api.runner import Progress
from headway.core.protocols import TimingModel
from headway.timing import Profile, Scattered

DRAWS = 20
INTERVAL = (0.1, 0.9)
_BLOCKS = 20  # of time


@dataclass(frozen=True, slots=True)
class Forecast:
    """A metric's value in a run that was not measured, and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Column:
    """A replay that is drawn several times; columns of one `seed` have the same draws."""

    timing: TimingModel
    setting: Setting
    cases: Seq[Case]
    profile: Profile  # whose residuals and drift are drawn from
    seed: int

    def judged(self, draw: int, scale: float) -> Judged:
        """Run once."""
        factors = [ratio for ratio in self.profile.residuals if ratio > 0] or [1.0]
        timing = Scattered(self.timing, factors, scale=scale, seed=self.seed + draw)
        return judge(self.cases, replay(self.cases, self.setting, timing))


@dataclass(frozen=True, slots=True)
class Draw:
    """Metrics of one draw: of all requests, and of those that were resampled."""

    whole: Mapping[str, float]
    resampled: Mapping[str, float]


def draw_column(
    column: Column, draws: int, progress: Progress | None, number: int, columns: int
) -> list[Draw]:
    """Run a column so many times; draw n of every column has the same scatter, pace and requests."""
    found = []
    for draw in range(draws):
        if progress is not None:
            progress("replaying", number * draws + draw, columns * draws)
        rng = Random(f"{column.seed}:{draw}")
        drift = column.profile.drift or (1.0,)
        judged = column.judged(draw, sum(rng.choice(drift) for _ in drift) / len(drift))
        count = len(judged.ttft_ns)
        blocks = np.array_split(np.arange(count), min(_BLOCKS, count))
        rows = np.concatenate([blocks[rng.randrange(len(blocks))] for _ in blocks])
        found.append(Draw(judged.metrics(), judged.metrics(rows)))
    return found


def differences(new: Seq[Draw], old: Seq[Draw]) -> list[Draw]:
    """Each draw of one column relative to the same draw of another."""
    return [
        Draw(relative(one.whole, other.whole), relative(one.resampled, other.resampled))
        for one, other in zip(new, old, strict=True)
    ]


def forecasts(draws: Seq[Draw]) -> dict[str, Forecast]:
    """By metric: the middle of the draws with all requests, and an interval over the resampled ones."""
    if not draws:
        return {}
    found = {}
    for name in METRICS:
        value = _quantile([draw.whole[name] for draw in draws], 0.5)
        low, high = (_quantile([draw.resampled[name] for draw in draws], at) for at in INTERVAL)
        found[name] = Forecast(value, min(low, value), max(high, value))
    return found


def _quantile(values: Seq[float], share: float) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.quantile(known, share)) if known else float("nan")
