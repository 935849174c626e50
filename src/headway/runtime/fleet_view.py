"""What admission and routing see: last reports, corrected by what was sent since. Updated, never rebuilt."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence as Seq
from math import inf
from random import Random

import numpy as np

from headway.core.fleet import DECODE, MIXED, Report
from headway.core.protocols import Clock, TimingModel
from headway.core.request import Request
from headway.errors import OptionError

Bandwidth = Callable[[str, str], float]

MEASURES = ("requests", "prompt_tokens")
_GONE = 1 << 62  # load of an instance that takes no more
_FEW = 32  # from here on numpy finds the least faster than a loop


class LiveFleetView:
    """Implements `core.views.FleetView`. Loads are counted here: sent and not ended."""

    def __init__(
        self,
        clock: Clock,
        instances: Seq[str],
        rng: Random,
        timing: TimingModel | None,
        roles: Mapping[str, str] | None = None,
        bandwidth: Bandwidth | None = None,
    ) -> None:
        self._clock, self.rng, self._timing = clock, rng, timing
        self._bandwidth = bandwidth
        self.instances: list[str] = list(instances)
        self._all = tuple(instances)
        self._at = {name: n for n, name in enumerate(instances)}
        self._loads = {measure: array("q", bytes(8 * len(self._all))) for measure in MEASURES}
        self._reports = {name: Report(0, 0, 0, 0, 0, 0) for name in instances}
        self._roles = dict.fromkeys(instances, MIXED) | dict(roles or {})
        self._taking = set(instances)  # not retired, not stopped
        self._gone: set[str] = set()  # not in `instances`: their loads are out of reach
        self.in_flight = 0
        self.stopped = ""  # why the last instance that stopped did so
        self._stream_tokens = 0
        self._stream_context = 0
        self._periods: dict[int, int] = {}
        if roles:
            self._refresh()

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
        load = self._measure(measure)[self._at[instance]]
        return load - _GONE if instance in self._gone else load

    def least_loaded(self, measure: str = "requests") -> str:
        """The instance with the smallest load; ties go to the first."""
        loads = self._measure(measure)
        if len(loads) <= _FEW:
            return self._all[loads.index(min(loads))]
        return self._all[int(np.frombuffer(loads, np.int64).argmin())]

    def bytes_per_s(self, one: str, other: str) -> float:
        """Bandwidth for KV between two instances; infinite where nobody says, as if all were one process."""
        return inf if self._bandwidth is None else self._bandwidth(one, other)

    def stream_demand(self, request: Request) -> tuple[int, int, int]:
        """Of all accepted periodic streams and `request`: tokens a period, context, shortest period (ns)."""
        tokens, context, period = _demand(request)
        periods = [*self._periods, period] if period else list(self._periods)
        return self._stream_tokens + tokens, self._stream_context + context, min(periods, default=0)

    def step_time_ns(self, tokens: int, context_tokens: int) -> int | None:
        """Predicted time of one step; None when nobody predicts."""
        return None if self._timing is None else self._timing.chunk_time_ns(tokens, context_tokens)

    def of_role(self, role: str) -> list[str]:
        """Instances of a role that take requests."""
        roles, taking = self._roles, self._taking
        return [name for name in self._all if name in taking and roles[name] == role]

    def role(self, instance: str) -> str:
        """What it is now."""
        return self._roles[instance]

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
        self._taking.discard(instance)
        self._refresh()

    def enlist(self, instance: str) -> None:
        """It takes requests again."""
        if instance in self._at and not self._reports[instance].stopped:
            self._taking.add(instance)
            self._refresh()

    def set_role(self, instance: str, role: str) -> None:
        """From now on it is mixed, prefill or decode."""
        self._roles[instance] = role
        self._refresh()

    def moved(self, source: str, to: str, request: Request) -> None:
        """A request's load counts at `to` from now on."""
        self._count(source, request, -1)
        self._count(to, request, 1)

    def _refresh(self) -> None:
        roles, taking = self._roles, self._taking
        self.instances = [name for name in self._all if name in taking and roles[name] != DECODE]
        gone = set(self._all).difference(self.instances)
        for name in gone ^ self._gone:
            for loads in self._loads.values():
                loads[self._at[name]] += _GONE if name in gone else -_GONE
        self._gone = gone

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
