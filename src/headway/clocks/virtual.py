"""Virtual time: a heap of events. Time jumps from one to the next."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from headway.core.protocols import WAKE

Event = Callable[[], None]
_TIME, _RANK, _KEY, _COUNT, _FN = range(5)


class VirtualTimer(list[object]):
    """One heap entry, [time, rank, key, count, fn]: compared in C, cancelled by taking its `fn` out.

    A list has one element type, so the places that read an entry ignore what the checker thinks of it.
    """

    __slots__ = ()

    def cancel(self) -> None:
        """Leave the entry in the heap, without effect."""
        self[_FN] = None


class VirtualClock:
    """Runs events in the order (time, rank, key); a counter breaks what ties remain."""

    def __init__(self) -> None:
        self._now = 0
        self._rank = WAKE
        self._key = 0
        self._count = 0
        self._heap: list[VirtualTimer] = []
        self._stopped = False

    def now_ns(self) -> int:
        """Time of the event that is running."""
        return self._now

    def call_at(self, time_ns: int, fn: Event, rank: int = WAKE, key: int = 0) -> VirtualTimer:
        """Schedule `fn`; a past time means now."""
        self._count += 1
        now = self._now
        timer = VirtualTimer((time_ns if time_ns > now else now, rank, key, self._count, fn))
        heapq.heappush(self._heap, timer)
        return timer

    def post(self, fn: Event) -> None:
        """Run `fn` at the present time, after what is already due now."""
        self.call_at(self._now, fn)

    def passed(self, rank: int, key: int) -> bool:
        """Would an event of (rank, key) at the present time have run already?

        What happens inside a leap is not in the heap: this puts it in its place among simultaneous events.
        """
        return (rank, key) <= (self._rank, self._key)

    def run(self, until_ns: int | None = None) -> None:
        """Run until nothing is due, `stop` was called, or the next event is after `until_ns`."""
        heap, pop = self._heap, heapq.heappop
        self._stopped = False
        while heap and not self._stopped:
            if until_ns is not None and heap[0][_TIME] > until_ns:  # type: ignore[operator]
                self._now = until_ns
                return
            time_ns, rank, key, _, fn = pop(heap)
            if fn is not None:
                self._now, self._rank, self._key = time_ns, rank, key  # type: ignore[assignment]
                fn()  # type: ignore[operator]

    def stop(self) -> None:
        """Make `run` return after the present event."""
        self._stopped = True
