"""The host's side: opens a world, runs the instance in it, and tells the parent of every step."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from headway.clocks.wall import WallClock
from headway.core.plan import Step, StepResult
from headway.core.protocols import Executor, Sink
from headway.core.request import Request
from headway.core.sequence import Sequence
from headway.errors import HeadwayError
from headway.host import frames
from headway.host.logged_executor import HostLog, LoggedExecutor, LoggedSink
from headway.host.spec import HostSpec
from headway.host.world import OpenWorld, World
from headway.records.run_log import Opened
from headway.runtime.instance import Instance, InstanceOptions
from headway.runtime.loader import load_policy
from headway.runtime.prefix_hash import PrefixHasher
from headway.runtime.prefix_index import NameAnswer
from headway.runtime.traits import speculation_of

SILENCE_S = 1.0  # an unchanged report is said again after this


class FrameSink:
    """Implements `Sink`: every step and every end becomes a frame. Never waits for the reader."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def send(self, frame: frames.Frame) -> None:
        """Queue a frame."""
        if not self._writer.is_closing():
            self._writer.write(frames.pack(frame))

    def on_tokens(self, step: Step, result: StepResult) -> None:
        """One message a step."""
        ids: dict[int, list[int]] = {}
        logprobs, cached = {}, {}
        for work, done in zip(step.work, result.done, strict=True):
            if done.emitted:
                sequence = work.sequence
                ids[sequence.id] = list(done.ids)
                if done.logprobs:
                    logprobs[sequence.id] = list(done.logprobs)
                if not sequence.output_tokens and sequence.cached_tokens:
                    cached[sequence.id] = sequence.cached_tokens
        if ids:
            self.send(frames.Tokens(step.id, result.ends_ns[-1], ids, logprobs, cached))

    def on_end(
        self, request: Request, sequence: Sequence | None, outcome: str, now_ns: int
    ) -> None:
        """One message an end."""
        books = (-1, 0, 0, 0)
        if sequence is not None:
            books = (
                sequence.started_ns,
                sequence.cached_tokens,
                sequence.computed_tokens,
                sequence.preemptions,
            )
        self.send(frames.Ended(request.id, outcome, now_ns, *books))


async def run_child(fd: int, open_world: OpenWorld) -> None:
    """Serve one parent on the inherited socket `fd`; end with it, whatever it is doing."""
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=fd))
    start = await frames.read(reader)
    if not isinstance(start, frames.Start):
        return
    sink = FrameSink(writer)
    began = time.monotonic()
    loop = asyncio.get_running_loop()

    def on_layer(done: int, total: int) -> None:
        loop.call_soon_threadsafe(sink.send, frames.Loading(done, total))

    # A thread of its own that ends with the loading, and its helpers with it: OpenMP threads that sleep still
    # count, and with more of them than cores those that compute no longer wait for each other awake.
    loader = ThreadPoolExecutor(1, "headway loading")
    loading: asyncio.Future[Callable[[WallClock], World]] = loop.run_in_executor(
        loader, open_world, start.spec, on_layer
    )
    loader.shutdown(wait=False)
    first = asyncio.ensure_future(frames.read(reader))  # nothing is due: it tells the parent's end
    either: set[asyncio.Future[Any]] = {loading, first}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        os._exit(1)  # threads that load cannot be stopped otherwise
    try:
        world = loading.result()(WallClock(loop, start_s=start.start_s))
        host = Host(start, world, sink)
    except HeadwayError as error:
        sink.send(frames.Refused(str(error)))
        await writer.drain()
        return
    took = time.monotonic() - began
    spec = start.spec
    sink.send(
        frames.Ready(
            world.model, world.executor.layers, spec.blocks, took, world.device, world.dtype
        )
    )
    try:
        left_alone = await host.serve(reader, writer, first)
    finally:
        host.close()
    if left_alone:
        os._exit(1)  # nobody waits for the step that is running
    world.close()
    writer.close()


class Host:
    """An instance in a world, and the log of what happens there."""

    def __init__(self, start: frames.Start, world: World, sink: FrameSink) -> None:
        spec = start.spec
        self._world, self._out, self._spec = world, sink, spec
        clock = WallClock(asyncio.get_running_loop(), start_s=start.start_s)
        policies = (
            load_policy("batching", spec.batching, spec.options_of(spec.batching, "batching")),
            load_policy("ordering", spec.ordering, spec.options_of(spec.ordering, "ordering")),
            load_policy("memory", spec.memory, spec.options_of(spec.memory, "memory")),
        )
        said = spec.options_of(spec.speculation, "speculation")
        drafts = speculation_of(load_policy("speculation", spec.speculation, said))
        names = _names(spec)
        options = InstanceOptions(
            spec.blocks,
            spec.block_tokens,
            prefix_cache=spec.prefix_cache,
            salted=spec.salted,
            leap=False,  # whoever reads the tokens wants them one by one
            host_blocks=spec.host_blocks,
            name=spec.name,
            seed=spec.seed,
            names=names,
        )
        executor: Executor = world.executor
        heard: Sink = sink
        self.log: HostLog | None = None
        if spec.run_log:
            self.log = HostLog(Path(spec.run_log), opened(spec, world), clock, names)
            executor, heard = LoggedExecutor(executor, self.log), LoggedSink(sink, self.log)
        self.instance = Instance(clock, executor, policies, options, heard, world.timing, drafts)

    def submit(self, frame: frames.Submit) -> None:
        """Hand a request over and reply."""
        request, log = frame.request(), self.log
        self._world.accept(request)
        if log is None:
            why_not = self.instance.submit(request)
        else:
            with log.inside():
                now_ns = log.clock.now_ns()
                why_not = self.instance.submit(request)
                if why_not is None:
                    log.submitted(request, now_ns)
        if why_not is not None:
            self._world.executor.release(request.id)
        self._out.send(frames.Reply(frame.id, why_not))

    async def serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        first: asyncio.Future[frames.Frame | None],
    ) -> bool:
        """Until drained (False) or until the parent is gone (True)."""
        reports = asyncio.create_task(self._report())
        try:
            frame = await first
            while frame is not None:
                if isinstance(frame, frames.Submit):
                    self.submit(frame)
                elif isinstance(frame, frames.Abort):
                    self.instance.abort(frame.id, frame.outcome)
                elif isinstance(frame, frames.Drain):
                    return await self._drain(reader, writer)
                frame = await frames.read(reader)
            return True
        finally:
            reports.cancel()

    async def _drain(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        drained = asyncio.Event()
        self.instance.drain(drained.set)
        waiting = asyncio.ensure_future(drained.wait())
        while not drained.is_set():
            reading = asyncio.ensure_future(frames.read(reader))
            await asyncio.wait({waiting, reading}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                frame = reading.result()
                if frame is None:
                    return True
                if isinstance(frame, frames.Abort):
                    self.instance.abort(frame.id, frame.outcome)
            else:
                reading.cancel()
        self._out.send(frames.Drained())
        await writer.drain()
        return False

    async def _report(self) -> None:
        said, said_s = None, 0.0
        while True:
            report = self.instance.report()
            now_s = time.monotonic()
            if report._replace(time_ns=0) != said or now_s - said_s >= SILENCE_S:
                self._out.send(frames.Reported(report))
                said, said_s = report._replace(time_ns=0), now_s
            if self.log:
                self.log.flush_now_and_then()
            await asyncio.sleep(self._spec.report_interval_ns / 1e9)

    def close(self) -> None:
        """Close the log."""
        if self.log:
            self.log.close()


def _names(spec: HostSpec) -> NameAnswer | None:
    if not spec.prefix_key:
        return None
    return PrefixHasher(spec.prefix_key, spec.block_tokens, salted=spec.salted).answer


def opened(spec: HostSpec, world: World) -> Opened:
    """Return the first line of a run log."""
    policies = {
        kind: getattr(spec, kind) for kind in ("batching", "ordering", "memory", "speculation")
    }
    return Opened(
        world.model,
        world.device,
        world.dtype,
        world.executor.layers,
        spec.blocks,
        spec.block_tokens,
        policies,
        dict(spec.options),
    )
