"""Real time on an asyncio loop.

Simultaneous events run in the loop's order: ranks matter only where time is exact.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headway.core.protocols import WAKE
from headway.core.request import NS_PER_S


class WallClock:
    """Nanoseconds since `start_s` on the loop's clock (None: since it was made).

    Processes of one machine share that clock: with the same start their times compare. `speedup` runs a
    simulated executor faster than real time.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        start_s: float | None = None,
        speedup: float = 1.0,
    ) -> None:
        self._loop, self._speedup = loop, speedup
        self._start = self.start_s = loop.time() if start_s is None else start_s

    def now_ns(self) -> int:
        """Nanoseconds since the start."""
        return int((self._loop.time() - self._start) * NS_PER_S * self._speedup)

    def call_at(
        self, time_ns: int, fn: Callable[[], None], rank: int = WAKE, key: int = 0
    ) -> asyncio.TimerHandle:
        """Schedule `fn`; rank and key are ignored."""
        del rank, key
        return self._loop.call_at(self._start + time_ns / NS_PER_S / self._speedup, fn)

    def post(self, fn: Callable[[], None]) -> None:
        """Run `fn` soon; may be called from any thread."""
        self._loop.call_soon_threadsafe(fn)

    def passed(self, rank: int, key: int) -> bool:
        """Ties do not occur in real time."""
        del rank, key
        return True
