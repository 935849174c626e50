"""A fleet of hosts as the HTTP side sees it: streams out of steps, and who is taken at all."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import secrets
from collections import deque
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass
from random import Random

import msgspec

from headway.clocks.wall import WallClock
from headway.core.fleet import ABORTED, FINISHED_OK, REJECTED
from headway.core.plan import Step, StepResult
from headway.core.protocols import Admission, Routing
from headway.core.request import NS_PER_S, Request
from headway.core.sequence import Sequence
from headway.host import HostSpec, ProcessPort
from headway.host.frames import Ready
from headway.metrics.targets import Track, missed_targets
from headway.runtime.fleet import Fleet
from headway.runtime.prefix_hash import KEY_BYTES, PrefixHasher
from headway.server.metrics import ServiceMetrics
from headway.server.stream import Load, Overloaded, Piece, Prompt, ServedModel, Stream

LOADING, DRAINING = "the model is being loaded", "the server is about to end"
LONGEST_RETRY_S = 30
PARTING_S = 2.0  # for idle hosts to end by themselves
_PACE = 64  # ends whose pace says when to retry


@dataclass
class Totals:
    """What has happened since the start; the periodic line prints differences."""

    prompt_tokens: int = 0
    output_tokens: int = 0
    promised: int = 0  # requests with an SLO that have ended, rejected ones included
    attained: int = 0
    ended: int = 0
    shed: int = 0


class FleetGateway:
    """Implements `Gateway` and, towards the hosts' ports, `Sink`. Lives on one event loop.

    `start` starts the hosts; until then, and after `drain`, requests are refused.
    """

    def __init__(
        self,
        clock: WallClock,
        model: ServedModel,
        specs: Seq[HostSpec],
        policies: tuple[Admission, Routing],
        *,
        seed: int = 0,
    ) -> None:
        self._clock, self._model = clock, model
        self._admission = policies[0]
        self.totals = Totals()
        self.metrics = ServiceMetrics(model, self.load)
        self.host_died: Callable[[HostSpec, str], None] = lambda spec, why: None
        first, self._key = specs[0], secrets.token_bytes(KEY_BYTES)
        self._hasher = PrefixHasher(self._key, first.block_tokens, salted=first.salted)
        self._cached = first.prefix_cache
        self._ports = {spec.name: self._port(spec) for spec in specs}
        self._fleet = Fleet(clock, self._ports, policies, self._fleet_ended, seed=seed)
        self._ids = itertools.count(1)
        self._jitter = Random(seed)
        self._why_not, self._started = LOADING, False
        self._streams: dict[int, Stream] = {}
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._tracks: dict[int, Track] = {}
        self._ends_ns: deque[int] = deque(maxlen=_PACE)
        self._idle = asyncio.Event()
        self._idle.set()

    # -- a life --------------------------------------------------------------------------------------------------

    async def start(self, on_layer: Callable[[int, int], None] | None = None) -> list[Ready]:
        """Start every host, all at once. `on_layer` hears of layers loaded, and of how many there are.

        Raises:
            HostError: one did not start; says why.
        """
        ports = list(self._ports.values())
        if on_layer is not None:
            ports[0].loading = on_layer  # one is enough: they load the same
        ready = await asyncio.gather(*(port.start() for port in ports))
        self._why_not, self._started = "", True
        return list(ready)

    async def renew(self, spec: HostSpec) -> Ready:
        """Start a host anew in the place of the one of that name, which has died.

        Raises:
            HostError: it did not start; says why.
        """
        port = self._port(spec)
        try:
            ready = await port.start()
        except BaseException:
            await port.close()
            raise
        await self._ports[spec.name].close()
        self._ports[spec.name] = port
        self._fleet.renew(spec.name, port)
        return ready

    def refuse(self) -> None:
        """Take no more requests; those that were taken go on."""
        self._why_not = DRAINING

    async def idle(self) -> None:
        """Wait until every request has ended."""
        await self._idle.wait()

    def end_streams(self, why: str) -> None:
        """End whatever still runs; its readers are told."""
        for request_id, stream in list(self._streams.items()):
            self._fleet.abort(request_id)
            self._last(stream, f"{ABORTED}: {why}", self._clock.now_ns())

    async def close(self) -> None:
        """Drain the hosts if they are idle, and end them in any case."""
        self.refuse()
        if self._started and self._idle.is_set():
            drained = asyncio.Event()
            self._fleet.drain(drained.set)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(drained.wait(), PARTING_S)
        await asyncio.gather(*(port.close() for port in self._ports.values()))

    @property
    def pids(self) -> list[int]:
        """Processes of the hosts."""
        return [port.pid for port in self._ports.values()]

    # -- Gateway -------------------------------------------------------------------------------------------------

    @property
    def model(self) -> ServedModel:
        """What is served."""
        return self._model

    @property
    def ready(self) -> str:
        """Empty when requests are taken; else why not."""
        if not self._why_not and not self._fleet.view.instances:
            return f"every host has stopped: {self._fleet.view.stopped or 'no reason given'}"
        return self._why_not

    def check(self, prompts: int, tenant: str) -> None:
        """Refuse early what would be refused later. Only a bound on requests in flight is known early.

        Raises:
            Overloaded: no.
        """
        del tenant
        why_not = self.ready
        if why_not:
            self.metrics.on_shed("draining" if why_not == DRAINING else "not_ready")
            self.totals.shed += 1
            raise Overloaded(
                why_not, retry_after_s=self._retry_after_s(), draining=why_not == DRAINING
            )
        view, most = self._fleet.view, getattr(self._admission, "max_requests", None)
        if isinstance(most, int) and view.in_flight + prompts > most * len(view.instances):
            self.metrics.on_shed("admission")
            self.totals.shed += 1
            limit = most * len(view.instances)
            raise Overloaded(
                f"{view.in_flight} requests are being served and {prompts} more would exceed {limit}: retry later",
                retry_after_s=self._retry_after_s(),
            )

    async def submit(self, prompt: Prompt) -> Stream:
        """Admit, route and send.

        Raises:
            Overloaded: no.
        """
        why_not = self.ready
        if why_not:
            raise Overloaded(why_not, draining=why_not == DRAINING)
        request_id = next(self._ids)
        stream = self._streams[request_id] = Stream(request_id, self._left)
        waiting = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        request = self._request(request_id, prompt)
        slo = request.slo
        if slo.itl_p99_ns is not None or slo.late_permille is not None:
            self._tracks[request_id] = Track(slo)
        self._idle.clear()
        self._fleet.submit(request)
        try:
            await waiting
        except asyncio.CancelledError:
            stream.abort()
            raise
        finally:
            self._waiting.pop(request_id, None)
        return stream

    def load(self) -> Load:
        """Requests in flight are counted here; who waits, and blocks, are as last reported."""
        view = self._fleet.view
        if not view.in_flight:
            return Load(0, 0, 0.0)
        reports = [view.report(name) for name in view.instances]
        waiting = min(view.in_flight, sum(report.waiting for report in reports))
        total = sum(report.total_blocks for report in reports)
        used = total - sum(report.free_blocks for report in reports)
        return Load(view.in_flight - waiting, waiting, used / total if total else 0.0)

    # -- Sink: what the hosts' ports tell -------------------------------------------------------------------------

    def on_tokens(self, step: Step, result: StepResult) -> None:
        """A step landed: a piece for each of its requests."""
        end_ns, metrics, streams = result.ends_ns[-1], self.metrics, self._streams
        tokens = 0
        for work, done in zip(step.work, result.done, strict=True):
            sequence = work.sequence
            tokens += done.emitted
            stream = streams.get(sequence.id)
            if stream is not None:
                stream.push(
                    Piece(done.ids, done.logprobs, end_ns, cached_tokens=sequence.cached_tokens)
                )
            if sequence.first_token_ns < 0:
                self.totals.prompt_tokens += sequence.request.prompt_tokens
            metrics.on_tokens(sequence, end_ns, done.emitted)
            track = self._tracks.get(sequence.id)
            if track is not None:
                track.on_units(sequence, result.ends_ns, done.emitted)
        self.totals.output_tokens += tokens
        metrics.on_step(tokens)

    def on_end(
        self, request: Request, sequence: Sequence | None, outcome: str, now_ns: int
    ) -> None:
        """A request ended, at a host or on the way to it."""
        track = self._tracks.pop(request.id, None)
        missed = 0
        if outcome == FINISHED_OK and sequence is not None:
            missed = missed_targets(request, sequence, now_ns, track)
        self.totals.ended += 1
        if request.slo.promises and not outcome.startswith("aborted"):
            self.totals.promised += 1
            self.totals.attained += outcome == FINISHED_OK and not missed
        self.metrics.on_end(request, sequence, outcome, now_ns, missed)
        self._ends_ns.append(self._clock.now_ns())
        stream = self._streams.get(request.id)
        if stream is not None:
            cached = sequence.cached_tokens if sequence is not None else 0
            self._last(stream, outcome, now_ns, cached)
        waiting = self._waiting.get(request.id)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    # -- inside --------------------------------------------------------------------------------------------------

    def _port(self, spec: HostSpec) -> ProcessPort:
        named = msgspec.structs.replace(spec, prefix_key=self._key)
        port = ProcessPort(named, self, self._clock.start_s)
        port.ended, port.accepted = self._ended, self._accepted
        port.died = lambda why: self.host_died(spec, why)
        return port

    def _request(self, request_id: int, prompt: Prompt) -> Request:
        named = self._cached or prompt.session is not None
        prefix = self._hasher.extents(prompt.ids, prompt.tenant) if named else ()
        return Request(
            request_id,
            self._clock.now_ns(),
            len(prompt.ids),
            prompt.max_tokens,
            slo=prompt.slo,
            tenant=prompt.tenant,
            session=prompt.session,
            prefix=prefix,
            prompt_ids=prompt.ids,
            sampling=prompt.sampling,
        )

    def _accepted(self, request_id: int) -> None:
        waiting = self._waiting.get(request_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _ended(self, request: Request, outcome: str) -> None:
        self._fleet.ended(request, outcome)

    def _fleet_ended(self, request: Request, outcome: str) -> None:
        """Every end passes here; a rejection passes only here."""
        if outcome.startswith(f"{REJECTED}:"):
            waiting = self._waiting.get(request.id)
            if waiting is not None and not waiting.done():
                why = outcome.partition(": ")[2]
                waiting.set_exception(Overloaded(why, retry_after_s=self._retry_after_s()))
            self.totals.shed += 1
            self._streams.pop(request.id, None)
            self.on_end(request, None, outcome, self._clock.now_ns())
        if not self._fleet.view.in_flight:
            self._idle.set()

    def _left(self, request_id: int) -> None:
        """Nobody reads any more."""
        stream = self._streams.pop(request_id, None)
        complete = stream is not None and stream.complete
        self._fleet.abort(request_id, FINISHED_OK if complete else ABORTED)

    def _last(self, stream: Stream, outcome: str, time_ns: int, cached: int = 0) -> None:
        self._streams.pop(stream.request_id, None)
        stream.push(Piece((), (), time_ns, outcome, cached))

    def _retry_after_s(self) -> int:
        """When some room may be expected, at the pace of the last ends, spread so that not all come at once."""
        ends = self._ends_ns
        spread = 1 + self._jitter.random()
        if len(ends) < 2 or ends[-1] <= ends[0]:
            return math.ceil(spread)
        each_s = (ends[-1] - ends[0]) / NS_PER_S / (len(ends) - 1)
        expected_s = each_s * max(1.0, self._fleet.view.in_flight / 8)
        return min(LONGEST_RETRY_S, max(1, math.ceil(expected_s * spread)))
