"""A workload on a real model: one fleet of one host, open loop, in real time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass
from functools import partial

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


@dataclass(frozen=True)
class LiveRun:
    """What came out: ids by request, and how the host started."""

    ready: Ready
    output_ids: dict[int, list[int]]
    outcomes: dict[int, str]


class _Keeper:
    """Passes everything on to `sink` and keeps the ids."""

    def __init__(self, sink: Sink, on_end: Callable[[], None]) -> None:
        self._sink, self._on_end = sink, on_end
        self.output_ids: dict[int, list[int]] = {}
        self.outcomes: dict[int, str] = {}

    def on_tokens(self, step: Step, result: StepResult) -> None:
        self._sink.on_tokens(step, result)

    def on_end(
        self, request: Request, sequence: Sequence | None, outcome: str, now_ns: int
    ) -> None:
        self._sink.on_end(request, sequence, outcome, now_ns)
        self.output_ids[request.id] = list(sequence.output_ids or ()) if sequence else []
        self.outcomes[request.id] = outcome
        self._on_end()


async def run_live(
    spec: HostSpec,
    requests: Seq[Request],
    policies: tuple[Admission, Routing],
    sink: Sink,
    *,
    on_ready: Callable[[Ready], None] | None = None,
    on_end: Callable[[], None] | None = None,
) -> LiveRun:
    """Start a host, offer every request at its arrival time (counted from readiness), and wait for all ends.

    Raises:
        HostError: the host did not start.
    """
    loop = asyncio.get_running_loop()
    keeper = _Keeper(sink, on_end or (lambda: None))
    clock = WallClock(loop)
    port = ProcessPort(spec, keeper, clock.start_s)
    try:
        ready = await port.start()
        if on_ready:
            on_ready(ready)
        await _offer(clock, port, spec, requests, policies, keeper)
        return LiveRun(ready, keeper.output_ids, keeper.outcomes)
    finally:
        await port.close()


async def _offer(
    clock: WallClock,
    port: ProcessPort,
    spec: HostSpec,
    requests: Seq[Request],
    policies: tuple[Admission, Routing],
    keeper: _Keeper,
) -> None:
    left = {request.id for request in requests}
    all_ended = asyncio.Event()

    def ended(request: Request, outcome: str) -> None:
        if outcome.startswith(f"{REJECTED}:"):
            keeper.on_end(request, None, outcome, clock.now_ns())
        left.discard(request.id)
        if not left:
            all_ended.set()

    fleet = Fleet(clock, {spec.name: port}, policies, ended, seed=spec.seed)
    port.ended = fleet.ended
    for request in requests:
        clock.call_at(request.arrival_ns, partial(fleet.submit, request), ARRIVAL, request.id)
    if left:
        await all_ended.wait()
    drained = asyncio.Event()
    fleet.drain(drained.set)
    await drained.wait()
