"""The run log, written from inside a host: between the instance and its executor, and as the instance's sink."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from headway.core.fleet import FINISHED_OK
from headway.core.plan import Step, StepResult, Transfer, Work
from headway.core.protocols import Clock, Executor, HostCopies, Sink, StepHandle
from headway.core.request import Request
from headway.core.sequence import Sequence
from headway.errors import OptionError
from headway.records.run_log import Ended, Opened, RunLogWriter, Stepped, Submitted, WorkLine
from headway.runtime.prefix_index import NameAnswer

FLUSH_S = 1.0


class HostLog:
    """A run log that is written as things happen and flushed once a second, and when closed."""

    def __init__(
        self, path: Path, opened: Opened, clock: Clock, names: NameAnswer | None = None
    ) -> None:
        self.clock, self._names = clock, names
        try:
            self._file: BinaryIO = path.open("wb", buffering=1 << 20)
        except OSError as error:
            raise OptionError(
                f"cannot write the run log {path}: {error.strerror}: give a path in a writable folder"
            ) from error
        self._writer = RunLogWriter(self._file)
        self.write = self._writer.write
        self.write(opened)
        self._flushed_s = time.monotonic()
        self.entered_s = 0.0  # when the instance was last entered; 0: it is not inside

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Whatever the instance does now began now."""
        self.entered_s = time.monotonic()
        try:
            yield
        finally:
            self.entered_s = 0.0

    def submitted(self, request: Request, now_ns: int) -> None:
        """A request that came in at `now_ns` was accepted."""
        self.write(
            Submitted(
                request.id,
                now_ns,
                request.arrival_ns,
                request.prompt_tokens,
                request.max_tokens,
                request.slo,
                request.tenant,
                request.session,
                request.prefix,
                request.next_extent,
            )
        )

    def ended(self, request: Request, sequence: Sequence | None, outcome: str, now_ns: int) -> None:
        """A request ended."""
        if sequence is None:
            self.write(Ended(request.id, now_ns, outcome, 0))
            return
        books = (sequence.output_tokens, sequence.cached_tokens, sequence.preemptions)
        named = self._names is not None and outcome == FINISHED_OK
        answer = cast("NameAnswer", self._names)(sequence) if named else ()
        self.write(Ended(request.id, now_ns, outcome, *books, tuple(answer)))

    def flush_now_and_then(self) -> None:
        """Once a second; a write to the page cache, not to the disk."""
        now_s = time.monotonic()
        if now_s - self._flushed_s >= FLUSH_S:
            self._flushed_s = now_s
            self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()


class LoggedExecutor:
    """Implements `Executor` around another: context and tokens as given out, results as they land.

    "plan" among a step's parts is the time from entering the instance (a result, a submit) to giving the step
    out: what the lane waits for between two steps.
    """

    def __init__(self, executor: Executor, log: HostLog) -> None:
        self._executor, self._log = executor, log
        self._lane_end_ns: dict[str, int] = {}

    @property
    def offers(self) -> frozenset[str]:
        """As the executor inside."""
        return self._executor.offers

    @property
    def layers(self) -> int:
        """As the executor inside."""
        return self._executor.layers

    def execute(self, step: Step, on_done: Callable[[StepResult], None]) -> StepHandle:
        """Note what is known now, and the rest when it lands."""
        given_ns = self._log.clock.now_ns()
        plan_ns = 0
        if self._log.entered_s:
            plan_ns = int((time.monotonic() - self._log.entered_s) * 1e9)
        spans = [_span(work, self.layers) for work in step.work]

        def landed(result: StepResult) -> None:
            with self._log.inside():
                self._write(step, spans, given_ns, plan_ns, result)
                on_done(result)
            self._log.flush_now_and_then()

        return self._executor.execute(step, landed)

    def transfer(self, transfer: Transfer, on_done: Callable[[], None]) -> None:
        """Pass on."""
        self._executor.transfer(transfer, on_done)

    def adopt_copy(self, from_id: int, to: Sequence, tokens: int) -> bool:
        """Pass on."""
        return cast("HostCopies", self._executor).adopt_copy(from_id, to, tokens)

    def drop_copy(self, request_id: int) -> None:
        """Pass on."""
        cast("HostCopies", self._executor).drop_copy(request_id)

    def release(self, request_id: int) -> None:
        """Pass on."""
        self._executor.release(request_id)

    def _write(
        self,
        step: Step,
        spans: list[tuple[int, int, int]],
        given_ns: int,
        plan_ns: int,
        result: StepResult,
    ) -> None:
        end_ns = result.ends_ns[-1]
        start_ns = min(end_ns, max(given_ns, self._lane_end_ns.get(step.lane, 0)))
        self._lane_end_ns[step.lane] = end_ns
        works = []
        for n, (work, (context, first, last)) in enumerate(zip(step.work, spans, strict=True)):
            emitted = result.done[n].emitted if result.done else 0
            works.append(
                WorkLine(
                    work.sequence.id, context, work.tokens, emitted, work.draft_tokens, first, last
                )
            )
        parts = {"plan": plan_ns, **dict(result.parts_ns)}
        self._log.write(
            Stepped(step.id, step.lane, start_ns, end_ns, tuple(works), result.status, parts)
        )


class LoggedSink:
    """Implements `Sink` in front of another: ends go to the log too."""

    def __init__(self, sink: Sink, log: HostLog) -> None:
        self._sink, self._log = sink, log
        self.on_tokens = sink.on_tokens

    def on_end(
        self, request: Request, sequence: Sequence | None, outcome: str, now_ns: int
    ) -> None:
        """Log, then pass on."""
        self._log.ended(request, sequence, outcome, now_ns)
        self._sink.on_end(request, sequence, outcome, now_ns)


def _span(work: Work, layers: int) -> tuple[int, int, int]:
    """Tokens computed before the work, and its layers; -1 stands for the model's last."""
    sequence = work.sequence
    first, last = work.layers or (0, layers)
    context = sequence.computed_tokens + sequence.pending_tokens
    return context, first, -1 if last == layers else last
