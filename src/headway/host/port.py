"""The parent's side of a host: an `InstancePort` to another process, which restarts nothing and loses nothing.

When the process dies, each request that was there ends as `failed`, with the exit code.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable

from headway.core.fleet import ABORTED, FAILED_STEP, Handoff, Report
from headway.core.plan import DONE, Step, StepResult, Work, WorkDone
from headway.core.protocols import Sink
from headway.core.request import Request
from headway.core.sequence import FINISHED, Sequence
from headway.errors import HeadwayError
from headway.host import frames
from headway.host.spec import SIM, HostSpec

PARTING_S = 5.0  # from the end of the socket to the end of the process, before it is killed


# oneDNN keeps a compiled product for every number of rows it has met, a thousand by default: about 1 GB
# after minutes of mixed batches. Few come back often, and a new one takes milliseconds. The names are
# those of PyTorch's and of oneDNN's own cache.
FEW_KERNELS = {"LRU_CACHE_CAPACITY": "48", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "48"}


class HostError(HeadwayError):
    """A host could not start."""


class ProcessPort:
    """`sink` hears of tokens and ends as if the instance were here; `ended` is the fleet's ear.

    `accepted` hears of requests that the instance took, `died` of the process's end when nobody asked for it,
    `loading` of layers loaded and in all.
    """

    def __init__(self, spec: HostSpec, sink: Sink, start_s: float) -> None:
        self._spec, self._sink, self._start_s = spec, sink, start_s
        self._sequences: dict[int, Sequence] = {}  # shadows of those over there
        self._replies: dict[int, Callable[[str | None], None]] = {}
        self._watch: Callable[[Report], None] = lambda report: None
        self._drained: Callable[[], None] = lambda: None
        self.ended: Callable[[Request, str], None] = lambda request, outcome: None
        self.accepted: Callable[[int], None] = lambda request_id: None
        self.died: Callable[[str], None] = lambda why: None
        self.loading: Callable[[int, int], None] = lambda done, total: None
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._dead = ""

    async def start(self) -> frames.Ready:
        """Start the process and wait until its model is loaded.

        Raises:
            HostError: it refused, or died; says why.
        """
        ours, theirs = socket.socketpair()
        fd = theirs.fileno()
        module = "headway.host.mock" if self._spec.world == SIM else "headway.host"
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            str(fd),
            pass_fds=(fd,),
            env={**FEW_KERNELS, **os.environ, **self._spec.environment},
        )
        theirs.close()
        reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        self._send(frames.Start(self._spec, self._start_s))
        answer = await frames.read(reader)
        while isinstance(answer, frames.Loading):
            self.loading(answer.done, answer.total)
            answer = await frames.read(reader)
        if not isinstance(answer, frames.Ready):
            code = await self._process.wait()
            why = answer.why if isinstance(answer, frames.Refused) else f"it ended with code {code}"
            raise HostError(f"host {self._spec.name} did not start: {why}")
        self._reading = asyncio.create_task(self._read(reader))
        return answer

    @property
    def pid(self) -> int:
        """The host's process id, once it was started."""
        assert self._process is not None, "start() comes first"
        return self._process.pid

    async def close(self) -> None:
        """End the process: it goes when its socket does, and is killed if that takes too long."""
        if self._reading:
            self._reading.cancel()
        if self._writer:
            self._writer.close()
        if self._process and self._process.returncode is None:
            try:
                await asyncio.wait_for(self._process.wait(), PARTING_S)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    # -- InstancePort --------------------------------------------------------------------------------------------

    def submit(self, request: Request, reply: Callable[[str | None], None]) -> None:
        """Send; the reply comes with the host's answer."""
        if self._dead:
            reply(self._dead)
            return
        self._sequences[request.id] = Sequence(request)
        self._replies[request.id] = reply
        self._send(frames.Submit.of(request))

    def abort(self, request_id: int, outcome: str = ABORTED) -> None:
        """Send; the socket keeps the order."""
        self._send(frames.Abort(request_id, outcome))

    def watch(self, sink: Callable[[Report], None]) -> None:
        """Reports go to `sink`."""
        self._watch = sink

    def export_to(
        self, request_id: int, peer: str, on_ready: Callable[[Handoff | None], None]
    ) -> None:
        """KV does not leave this process yet: the sequence stays where it is."""
        del request_id, peer
        on_ready(None)

    def import_from(
        self, request: Request, handoff: Handoff, peer: str, reply: Callable[[str | None], None]
    ) -> None:
        """KV does not come in yet."""
        del request, handoff, peer
        reply("this host takes no sequences over")

    def drain(self, on_drained: Callable[[], None]) -> None:
        """Send; the process ends after its last sequence. A dead one has nothing left to drain."""
        if self._dead:
            on_drained()
            return
        self._drained = on_drained
        self._send(frames.Drain())

    # -- what the host says --------------------------------------------------------------------------------------

    def _send(self, frame: frames.Frame) -> None:
        if self._writer and not self._writer.is_closing():
            self._writer.write(frames.pack(frame))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        why = ""
        try:
            while (frame := await frames.read(reader)) is not None:
                self._hear(frame)
                if isinstance(frame, frames.Drained):
                    return
        except frames.FrameError as error:
            why = f": {error}"
            if self._process and self._process.returncode is None:
                self._process.kill()
        code = await self._process.wait() if self._process else None
        self._dead = f"host {self._spec.name} has ended with code {code}{why}"
        self._replies.clear()
        for sequence in list(self._sequences.values()):
            self._end(sequence, f"{FAILED_STEP}: {self._dead}", sequence.last_token_ns)
        self._watch(Report(1 << 62, 0, 0, 0, 0, 0, self._dead))
        self._drained()
        self.died(self._dead)

    def _hear(self, frame: frames.Frame) -> None:
        if isinstance(frame, frames.Tokens):
            self._tokens(frame)
        elif isinstance(frame, frames.Ended):
            self._ended(frame)
        elif isinstance(frame, frames.Reply):
            if frame.why_not is not None:
                self._sequences.pop(frame.id, None)
            self._replies.pop(frame.id)(frame.why_not)
            if frame.why_not is None:
                self.accepted(frame.id)
        elif isinstance(frame, frames.Reported):
            self._watch(frame.report)
        elif isinstance(frame, frames.Drained):
            self._drained()

    def _tokens(self, frame: frames.Tokens) -> None:
        """Apply a step to the shadows, after the sink has heard of it: as an instance here would."""
        works, done = [], []
        for request_id, ids in frame.ids.items():
            sequence = self._sequences.get(request_id)
            if sequence is not None:
                works.append(Work(sequence, len(ids)))
                if request_id in frame.cached:
                    sequence.cached_tokens = frame.cached[request_id]
                logprobs = frame.logprobs.get(request_id, ())
                done.append(WorkDone(0, len(ids), len(ids), ids=ids, logprobs=logprobs))
        step = Step(frame.step, "main", works)
        self._sink.on_tokens(step, StepResult(DONE, done, [frame.end_ns]))
        for work, result in zip(works, done, strict=True):
            sequence = work.sequence
            if sequence.first_token_ns < 0:
                sequence.first_token_ns = frame.end_ns
            sequence.last_token_ns = frame.end_ns
            sequence.output_tokens += result.emitted
            sequence.total_tokens += result.emitted
            if sequence.output_ids is None:
                sequence.output_ids = []
            sequence.output_ids += result.ids

    def _ended(self, frame: frames.Ended) -> None:
        sequence = self._sequences.get(frame.id)
        if sequence is not None:
            sequence.started_ns = frame.started_ns
            sequence.cached_tokens = frame.cached_tokens
            sequence.computed_tokens = frame.computed_tokens
            sequence.preemptions = frame.preemptions
            self._end(sequence, frame.outcome, frame.now_ns)

    def _end(self, sequence: Sequence, outcome: str, now_ns: int) -> None:
        sequence.state = FINISHED
        request = sequence.request
        del self._sequences[request.id]
        self._sink.on_end(request, sequence, outcome, now_ns)
        self.ended(request, outcome)
