"""One step in flight on the timed executor: where it is, how fast it runs, where it will stop.

Work left is an integer in nanoseconds times the full rate, and ends are ceilings: re-timing a step twice gives the
end that re-timing it once gives.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING

from headway.core.plan import LAYER, STEP, Step, StepResult
from headway.core.protocols import RESULT, Timer

if TYPE_CHECKING:
    from headway.sim.timed import Timed

FULL_RATE = 1000  # per mille of the device


class Flight:
    """Implements `StepHandle`."""

    __slots__ = (
        "_durations",
        "_ends",
        "_since_ns",
        "_work",
        "landed_ns",
        "lefts",
        "on_done",
        "owner",
        "rate",
        "repeats_done",
        "step",
        "stop_layers",
        "timer",
    )

    def __init__(self, step: Step, on_done: Callable[[StepResult], None], owner: Timed) -> None:
        self.step, self.on_done, self.owner = step, on_done, owner
        self.rate = 0
        self.repeats_done = 0
        self.stop_layers = 0  # interrupted: the layer it stops at
        self.timer: Timer | None = None
        self.lefts: list[int] = []  # of a leap: each work's repeats until its model stops
        self.landed_ns: list[int] = []  # ends of repeats not handed over yet
        self._durations: list[int] = []  # of repeats that have not landed, alone on the device
        self._ends: list[int] = []  # when they land at the present rate
        self._since_ns = 0
        self._work = 0  # of the first of them, what is left at `_since_ns`

    def begin(self, now_ns: int, durations: list[int], *, alone: bool) -> None:
        """The lane has reached this step; `alone` on the device it runs at once, else `run_at` follows."""
        self._durations, self._since_ns = durations, now_ns
        self._work = durations[0] * FULL_RATE
        if alone:
            self.rate = FULL_RATE
            self._ends = ends = list(accumulate(durations, initial=now_ns))
            del ends[0]
            self.timer = self.owner.clock.call_at(ends[-1], self.land, RESULT, self.step.key)

    def run_at(self, rate: int) -> None:
        """Go on at `rate` per mille of the device."""
        if rate != self.rate:
            if self.rate:
                self._advance()
            self.rate = rate
            self._arm()

    def _arm(self) -> None:
        if self.timer:
            self.timer.cancel()
        rate, durations = self.rate, self._durations
        first = self._since_ns - (-self._work // rate)
        rest = (-(-duration * FULL_RATE // rate) for duration in durations[1:])
        self._ends = list(accumulate(rest, initial=first))
        self.timer = self.owner.clock.call_at(self._ends[-1], self.land, RESULT, self.step.key)

    def _advance(self) -> None:
        """Move to now, past the repeats that landed on the way (never the last one: that is `land`)."""
        clock = self.owner.clock
        now, ends = clock.now_ns(), self._ends
        count = bisect_right(ends, now)
        if count and ends[count - 1] == now and not clock.passed(RESULT, self.step.key):
            count -= 1  # it ends now, but after the event that is running
        count = min(count, len(ends) - 1)
        if count:
            self.landed_ns += ends[:count]
            self._since_ns, self._work = ends[count - 1], self._durations[count] * FULL_RATE
            del ends[:count], self._durations[:count]
        # Never negative: a step that is due, or overdue on a wall clock, ends now, not before, at any rate.
        self._work = max(0, self._work - (now - self._since_ns) * self.rate)
        self._since_ns = now

    def settle(self) -> StepResult | None:
        """Hand over the repeats that have landed."""
        if not self.rate or len(self._ends) + len(self.landed_ns) == 1:
            return None
        self._advance()
        if not self.landed_ns:
            return None
        landed, self.landed_ns = self.landed_ns, []
        self.repeats_done += len(landed)
        return self.owner.result(self, landed, last=False)

    def interrupt(self, boundary: str) -> None:
        """Stop at the next boundary."""
        if not self.rate:
            return  # still queued behind another step: it has no boundary to stop at
        if boundary == STEP and self.rate == FULL_RATE:
            self._stop_at_step()
            return
        self._advance()
        if len(self._durations) > 1:
            del self._durations[1:], self._ends[1:]
            if self.timer:
                self.timer.cancel()
            self.timer = self.owner.clock.call_at(self._ends[0], self.land, RESULT, self.step.key)
        if boundary == LAYER and not self.stop_layers and not self.landed_ns:
            self._stop_at_layer()

    def _stop_at_step(self) -> None:
        """At full rate nothing need be re-timed: the leap is cut after the repeat that is under way."""
        ends, clock = self._ends, self.owner.clock
        at = bisect_right(ends, clock.now_ns())
        if at and ends[at - 1] == clock.now_ns() and not clock.passed(RESULT, self.step.key):
            at -= 1
        if at < len(ends) - 1:
            del ends[at + 1 :], self._durations[at + 1 :]
            if self.timer:
                self.timer.cancel()
            self.timer = clock.call_at(ends[at], self.land, RESULT, self.step.key)

    def _stop_at_layer(self) -> None:
        """Layers take equal parts of the step; one that has begun is finished."""
        layers = self.owner.layers
        first = min((work.layers or (0, layers))[0] for work in self.step.work)
        last = max((work.layers or (0, layers))[1] for work in self.step.work)
        span, total = last - first, self._durations[0] * FULL_RATE
        reached = max(1, -(-(total - self._work) * span // total))
        if reached < span:
            self.stop_layers = first + reached
            self._work -= total - total * reached // span
            self._arm()

    def land(self) -> None:
        """The last repeat is over."""
        self.timer = None
        self.landed_ns += self._ends
        self.repeats_done += len(self.landed_ns)
        self.owner.landed(self)
