"""What admission and routing see: last reports, corrected by what was sent since. Updated, never rebuilt."""

from __future__ import annotations

from array import array
from collections.abc import Sequence as Seq
from random import Random

import numpy as np

from headway.core.fleet import Report
from headway.core.protocols import Clock, TimingModel
from headway.core.request import Request
from headway.errors import OptionError

MEASURES = ("requests", "prompt_tokens")
_GONE = 1 << 62  # load of an instance that takes no more
_FEW = 32  # from here on numpy finds the least faster than a loop


class LiveFleetView:
    """Implements `core.views.FleetView`. Loads are counted here: sent and not ended."""

    def __init__(
        self, clock: Clock, instances: Seq[str], rng: Random, timing: TimingModel | None
    ) -> None:
        self._clock, self.rng, self._timing = clock, rng, timing
        self.instances: list[str] = list(instances)
        self._all = tuple(instances)
        self._at = {name: n for n, name in enumerate(instances)}
        self._loads = {measure: array("q", bytes(8 * len(self._all))) for measure in MEASURES}
        self._reports = {name: Report(0, 0, 0, 0, 0, 0) for name in instances}
        self.in_flight = 0
        self.stopped = ""  # why the last instance that stopped did so
        self._stream_tokens = 0
        self._stream_context = 0
        self._periods: dict[int, int] = {}

    @property
    def now_ns(self) -> int:
        """Nanoseconds since the run began."""
        return self._clock.now_ns()

    def report(self, instance: str) -> Report:
        """What the instance last said of itself."""
        return self._reports[instance]

    def age_ns(self, instance: str) -> int:
        """How old that is."""
        return self._clock.now_ns() - self._reports[instance].time_ns

    def load(self, instance: str, measure: str = "requests") -> int:
        """`requests` or `prompt_tokens` there, sent and not ended."""
        return self._measure(measure)[self._at[instance]]

    def least_loaded(self, measure: str = "requests") -> str:
        """The instance with the smallest load; ties go to the first."""
        loads = self._measure(measure)
        if len(loads) <= _FEW:
            return self._all[loads.index(min(loads))]
        return self._all[int(np.frombuffer(loads, np.int64).argmin())]

    def stream_demand(self, request: Request) -> tuple[int, int, int]:
        """Of all accepted periodic streams and `request`: tokens a period, context, shortest period (ns)."""
        tokens, context, period = _demand(request)
        periods = [*self._periods, period] if period else list(self._periods)
        return self._stream_tokens + tokens, self._stream_context + context, min(periods, default=0)

    def step_time_ns(self, tokens: int, context_tokens: int) -> int | None:
        """Predicted time of one step; None when nobody predicts."""
        return None if self._timing is None else self._timing.chunk_time_ns(tokens, context_tokens)

    # -- written by the fleet ------------------------------------------------------------------------------------

    def heard(self, instance: str, report: Report) -> None:
        """A report has come in; one that overtook a newer report is dropped."""
        if report.time_ns >= self._reports[instance].time_ns:
            self._reports[instance] = report
            if report.stopped:
                self.stopped = report.stopped
                self.remove(instance)

    def sent(self, instance: str, request: Request) -> None:
        """A request is on its way to `instance`."""
        self._count(instance, request, 1)

    def ended(self, instance: str, request: Request) -> None:
        """It has ended there."""
        self._count(instance, request, -1)

    def remove(self, instance: str) -> None:
        """It takes no more requests."""
        if instance in self.instances:
            self.instances.remove(instance)
            for loads in self._loads.values():
                loads[self._at[instance]] = _GONE

    def restore(self, instance: str) -> None:
        """It takes requests again, and has none."""
        if instance not in self.instances:
            self.instances = [n for n in self._all if n == instance or n in self.instances]
            self._reports[instance] = Report(0, 0, 0, 0, 0, 0)
            for loads in self._loads.values():
                loads[self._at[instance]] = 0

    def _count(self, instance: str, request: Request, sign: int) -> None:
        self.in_flight += sign
        at = self._at[instance]
        self._loads["requests"][at] += sign
        self._loads["prompt_tokens"][at] += sign * request.prompt_tokens
        if request.stage.period_ns:
            tokens, context, period = _demand(request)
            self._stream_tokens += sign * tokens
            self._stream_context += sign * context
            self._periods[period] = self._periods.get(period, 0) + sign
            if not self._periods[period]:
                del self._periods[period]

    def _measure(self, measure: str) -> array[int]:
        loads = self._loads.get(measure)
        if loads is None:
            raise OptionError(f"unknown load measure {measure!r}: use {' or '.join(MEASURES)}")
        return loads


def _demand(request: Request) -> tuple[int, int, int]:
    """Tokens a period, most context tokens, and period of one stream; zeros when it is none."""
    stage = request.stage
    if not stage.period_ns:
        return 0, 0, 0
    context = request.prompt_tokens + request.max_tokens * (1 + stage.unit_tokens)
    return 1 + stage.unit_tokens, context, stage.period_ns
