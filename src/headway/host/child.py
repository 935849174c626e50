"""The host's side: loads the model, runs the instance, and tells the parent of every step."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

from headway.clocks.wall import WallClock
from headway.core.plan import Step, StepResult
from headway.core.request import Request
from headway.core.sequence import Sequence
from headway.engine.executor import TorchExecutor
from headway.engine.load import LoadedModel, load, load_embedded
from headway.errors import HeadwayError
from headway.host import frames
from headway.host.spec import HostSpec
from headway.runtime.instance import Instance, InstanceOptions
from headway.runtime.loader import load_policy


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
        ids = {
            work.sequence.id: list(done.ids)
            for work, done in zip(step.work, result.done, strict=True)
            if done.emitted
        }
        if ids:
            logprobs = {
                work.sequence.id: list(done.logprobs)
                for work, done in zip(step.work, result.done, strict=True)
                if done.logprobs
            }
            self.send(frames.Tokens(step.id, result.ends_ns[-1], ids, logprobs))

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


async def run_child(fd: int) -> None:
    """Serve one parent on the inherited socket `fd`."""
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=fd))
    start = await frames.read(reader)
    if not isinstance(start, frames.Start):
        return
    sink = FrameSink(writer)
    began = time.monotonic()
    try:
        model = await asyncio.to_thread(_load, start.spec)
        clock = WallClock(asyncio.get_running_loop(), start_s=start.start_s)
        instance, executor = _instance(start.spec, clock, model, sink)
    except HeadwayError as error:
        sink.send(frames.Refused(str(error)))
        await writer.drain()
        return
    took = time.monotonic() - began
    sink.send(frames.Ready(model.name, model.layers, start.spec.blocks, took))
    reports = asyncio.create_task(_report(instance, sink, start.spec.report_interval_ns / 1e9))
    try:
        await _serve(reader, writer, instance, sink)
    finally:
        reports.cancel()
        executor.close()
        writer.close()


def _load(spec: HostSpec) -> LoadedModel:
    return load_embedded() if spec.model == "embedded" else load(Path(spec.model))


def _instance(
    spec: HostSpec, clock: WallClock, model: LoadedModel, sink: FrameSink
) -> tuple[Instance, TorchExecutor]:
    executor = TorchExecutor(
        clock,
        model.model,
        blocks=spec.blocks,
        block_tokens=spec.block_tokens,
        stops=() if spec.ignore_eos else model.stops,
        threads=spec.threads or None,
    )
    policies = (
        load_policy("batching", spec.batching, spec.options_of(spec.batching)),
        load_policy("ordering", spec.ordering, spec.options_of(spec.ordering)),
        load_policy("memory", spec.memory, spec.options_of(spec.memory)),
    )
    options = InstanceOptions(spec.blocks, spec.block_tokens, name=spec.name, seed=spec.seed)
    return Instance(clock, executor, policies, options, sink), executor


async def _serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, instance: Instance, sink: FrameSink
) -> None:
    drained = asyncio.Event()
    while (frame := await frames.read(reader)) is not None:
        if isinstance(frame, frames.Submit):
            sink.send(frames.Reply(frame.id, instance.submit(frame.request())))
        elif isinstance(frame, frames.Abort):
            instance.abort(frame.id)
        elif isinstance(frame, frames.Drain):
            instance.drain(drained.set)
            await drained.wait()
            sink.send(frames.Drained())
            await writer.drain()
            return


async def _report(instance: Instance, sink: FrameSink, interval_s: float) -> None:
    while True:
        sink.send(frames.Reported(instance.report()))
        await asyncio.sleep(interval_s)
