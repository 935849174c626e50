"""Real time on an asyncio loop.

Simultaneous events run in the loop's order: ranks matter only where time is exact.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headway.core.protocols import WAKE
from headway.core.request import NS_PER_S


class WallClock:
    """Nanoseconds since it was made; `speedup` runs a simulated executor faster than real time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, speedup: float = 1.0) -> None:
        self._loop, self._start, self._speedup = loop, loop.time(), speedup

    def now_ns(self) -> int:
        """Nanoseconds since the clock was made."""
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
