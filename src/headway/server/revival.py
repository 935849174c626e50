"""Hosts that die are started again, a few times, ever more slowly."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec

from headway.errors import HeadwayError
from headway.host import HostSpec
from headway.server.gateway import FleetGateway

MOST_RESTARTS = 3  # of one host: whatever kills it more often will do so again
FIRST_PAUSE_S = 0.5


class Revival:
    """Hears of deaths and starts the host anew. Its requests have failed: they may be what killed it."""

    def __init__(
        self,
        gateway: FleetGateway,
        say: Callable[[str], None],
        *,
        most: int = MOST_RESTARTS,
        pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        self._gateway, self._say, self._most, self._pause_s = gateway, say, most, pause_s
        self._restarts: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    def died(self, spec: HostSpec, why: str) -> None:
        """A host has ended that should not."""
        if self._stopped:
            return
        self._say(f"{why}; its requests have failed")
        if self._restarts[spec.name] >= self._most:
            self._say(f"host {spec.name} was started {self._most} times again: it stays down")
            return
        task = asyncio.ensure_future(self._revive(spec))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Start nothing any more."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _revive(self, spec: HostSpec) -> None:
        while self._restarts[spec.name] < self._most:
            self._restarts[spec.name] += 1
            count = self._restarts[spec.name]
            await asyncio.sleep(self._pause_s * 2 ** (count - 1))
            try:
                ready = await self._gateway.renew(_with_log(spec, count))
            except HeadwayError as error:
                self._say(str(error))
            else:
                self._say(f"host {spec.name} is back after {ready.load_s:.1f} s of loading")
                return


def _with_log(spec: HostSpec, count: int) -> HostSpec:
    """Each life has a run log of its own."""
    if not spec.run_log:
        return spec
    path = Path(spec.run_log)
    stem = path.stem.removesuffix(f".restart{count - 1}")
    named = path.with_name(f"{stem}.restart{count}{path.suffix}")
    return msgspec.structs.replace(spec, run_log=str(named))
