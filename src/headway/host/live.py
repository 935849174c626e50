"""Workloads on a real model: one fleet of one host, open loop, in real time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Self

from headway.clocks.wall import WallClock
from headway.core.fleet import REJECTED
from headway.core.plan import Step, StepResult
from headway.core.protocols import ARRIVAL, Admission, Routing, Sink
from headway.core.request import Request
from headway.core.sequence import Sequence
from headway.host.frames import Ready
from headway.host.port import ProcessPort
from headway.host.spec import HostSpec
from headway.runtime.fleet import Fleet

LEAD_NS = 20_000_000  # from `run` to its first arrival: time to schedule them all


@dataclass
class LiveRun:
    """What came out of one workload: ids and outcomes by request."""

    output_ids: dict[int, list[int]] = field(default_factory=dict)
    outcomes: dict[int, str] = field(default_factory=dict)


class _Ear:
    """Between the port and the sink of the workload that is running; keeps the ids."""

    def __init__(self) -> None:
        self.sink: Sink | None = None
        self.run = LiveRun()

    def on_tokens(self, step: Step, result: StepResult) -> None:
        if self.sink:
            self.sink.on_tokens(step, result)

    def on_end(
        self, request: Request, sequence: Sequence | None, outcome: str, now_ns: int
    ) -> None:
        if self.sink:
            self.sink.on_end(request, sequence, outcome, now_ns)
        self.run.output_ids[request.id] = list(sequence.output_ids or ()) if sequence else []
        self.run.outcomes[request.id] = outcome


class LiveFleet:
    """An async context: starts a host, runs workloads one after the other, and ends the host.

    Ids must not repeat between workloads. Leaving the context drains; an exception ends the host at once.
    """

    def __init__(self, spec: HostSpec, policies: tuple[Admission, Routing]) -> None:
        self._spec, self._policies = spec, policies
        self._ear = _Ear()
        self._left: set[int] = set()
        self._all_ended = asyncio.Event()
        self._on_end: Callable[[], None] = lambda: None
        self.ready: Ready

    async def __aenter__(self) -> Self:
        self._clock = WallClock(asyncio.get_running_loop())
        self._port = ProcessPort(self._spec, self._ear, self._clock.start_s)
        try:
            self.ready = await self._port.start()
        except BaseException:
            await self._port.close()
            raise
        ports = {self._spec.name: self._port}
        self._fleet = Fleet(self._clock, ports, self._policies, self._ended, seed=self._spec.seed)
        self._port.ended = self._fleet.ended
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                drained = asyncio.Event()
                self._fleet.drain(drained.set)
                await drained.wait()
        finally:
            await self._port.close()

    @property
    def host_pid(self) -> int:
        """The host's process."""
        return self._port.pid

    async def run(
        self,
        requests: Seq[Request],
        sink: Sink,
        *,
        on_offer: Callable[[Request], None] | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> LiveRun:
        """Offer every request at its arrival time, counted from now, and wait until all have ended."""
        self._ear.sink, self._ear.run = sink, LiveRun()
        self._on_end = on_end or (lambda: None)
        self._left = {request.id for request in requests}
        self._all_ended.clear()
        start_ns = self._clock.now_ns() + LEAD_NS
        for request in requests:
            offered = replace(request, arrival_ns=start_ns + request.arrival_ns)
            arrive = partial(self._arrive, offered, on_offer)
            self._clock.call_at(offered.arrival_ns, arrive, ARRIVAL, offered.id)
        if self._left:
            await self._all_ended.wait()
        return self._ear.run

    def _arrive(self, request: Request, on_offer: Callable[[Request], None] | None) -> None:
        if on_offer:
            on_offer(request)
        self._fleet.submit(request)

    def _ended(self, request: Request, outcome: str) -> None:
        if outcome.startswith(f"{REJECTED}:"):
            self._ear.on_end(request, None, outcome, self._clock.now_ns())
        self._left.discard(request.id)
        self._on_end()
        if not self._left:
            self._all_ended.set()
