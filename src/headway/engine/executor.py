"""Steps on a PyTorch model, a thread a lane; results come back through `clock.post`.

A step looks at its stop flag between two layers. Steps of a lane run in the order they were given; a step
may be given before the result of the one before it has landed: tokens are known to the worker first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import torch

from headway.core.plan import (
    COPY_IN,
    COPY_OUT,
    DONE,
    EXPORT,
    FAILED,
    IMPORT,
    INTERRUPTED,
    LAYER,
    SWAP_IN,
    SWAP_OUT,
    Step,
    StepResult,
    Transfer,
)
from headway.core.protocols import DRAFTS, LANES, LAYERS, TRANSFERS, Clock
from headway.engine.books import Books, Entry
from headway.engine.compute import Compute
from headway.engine.decoder import Decoder
from headway.engine.kv_exchange import KvExchange
from headway.engine.kv_pool import KvPool

TRANSFER_THREAD = "headway transfers"


class TorchStepHandle:
    """A step in flight. The flag is written by the loop and read by the worker."""

    __slots__ = ("_stop",)

    def __init__(self) -> None:
        self._stop = False

    def interrupt(self, boundary: str) -> None:
        """End after the current layer; a step boundary is where it ends anyway."""
        if boundary == LAYER:
            self._stop = True

    def settle(self) -> None:
        """Nothing lands before the step does: this executor does not leap."""

    def go_on(self, layers: int) -> bool:
        """Compute the next layer?"""
        del layers
        return not self._stop


class TorchExecutor:
    """Runs steps and moves KV for one instance.

    A request that cannot be computed fails alone, by its own work's `error`. `stops` are the ids at which the
    model ends a sequence (none: only the request's own and `max_tokens` end it). `exchange` is shared by the
    executors of a process that export and import. `threads` sets PyTorch's, for the whole process.
    """

    offers: frozenset[str] = frozenset({LANES, LAYERS, TRANSFERS, DRAFTS})

    def __init__(
        self,
        clock: Clock,
        model: Decoder,
        *,
        blocks: int,
        block_tokens: int = 16,
        stops: Iterable[int] = (),
        exchange: KvExchange | None = None,
        threads: int | None = None,
    ) -> None:
        self.layers: int = model.config.layers
        self._clock = clock
        self._pool = KvPool(model.config, blocks, block_tokens, model.dtype)
        self._compute = Compute(model, self._pool)
        self._books = Books(self.layers, frozenset(stops))
        self._exchange = exchange or KvExchange()
        self._workers: dict[str, ThreadPoolExecutor] = {}
        if threads:
            torch.set_num_threads(threads)

    def execute(self, step: Step, on_done: Callable[[StepResult], None]) -> TorchStepHandle:
        """Queue a step on its lane's thread."""
        assert step.repeats == 1, "leaps are not offered"
        handle, jobs = TorchStepHandle(), self._books.jobs(step)

        def work() -> None:
            try:
                computed = self._compute.run(jobs, handle.go_on)
            except Exception as error:  # noqa: BLE001 - whatever it is, it ends this step and no other
                result = StepResult(FAILED, (), (), f"{type(error).__name__}: {error}")
            else:
                status = INTERRUPTED if computed.stopped else DONE
                result = StepResult(status, computed.done, (), parts_ns=computed.parts_ns)

            def land() -> None:
                Books.landed(jobs)
                on_done(result._replace(ends_ns=[self._clock.now_ns()]))

            self._clock.post(land)

        self._worker(f"headway lane {step.lane}").submit(work)
        return handle

    def transfer(self, transfer: Transfer, on_done: Callable[[], None]) -> None:
        """Queue a copy. One that cannot be made fails the sequence's next step, which then says why."""
        sequence = transfer.sequence
        entry, request_id = self._books.entry(sequence), sequence.request.id
        blocks = tuple(sequence.blocks[transfer.first : transfer.first + transfer.blocks])

        def copy() -> None:
            try:
                self._move(transfer, request_id, entry, blocks)
            except Exception as error:  # noqa: BLE001 - reported by the sequence's next step
                entry.broken = f"{transfer.kind} of request {request_id} failed: {error}"
            self._clock.post(on_done)

        if transfer.kind != COPY_OUT:
            entry.partial = None  # what moves restarts its chunk
        self._worker(TRANSFER_THREAD).submit(copy)

    def release(self, request_id: int) -> None:
        """Forget tokens, hidden states and host copies; steps in flight keep theirs until they land."""
        self._books.release(request_id)
        self._exchange.drop(request_id)

    def close(self) -> None:
        """Finish what is queued and end the threads; the executor cannot be used afterwards."""
        for worker in self._workers.values():
            worker.shutdown()

    def _move(
        self, transfer: Transfer, request_id: int, entry: Entry, blocks: tuple[int, ...]
    ) -> None:
        kind, first = transfer.kind, transfer.first
        if kind == SWAP_OUT:
            entry.host = self._pool.copy_out(blocks, entry.tokens)
        elif kind in (EXPORT, COPY_OUT):
            tokens = entry.tokens if kind == EXPORT else ()  # it goes on: more will come
            self._exchange.put(request_id, first, self._pool.copy_out(blocks, tokens))
        elif kind in (SWAP_IN, IMPORT, COPY_IN):
            copy = entry.host if kind == SWAP_IN else self._exchange.take(request_id, first)
            entry.host = None
            if copy is None:
                raise LookupError("there is no copy of its KV in this process")
            self._pool.copy_in(copy, blocks)
            if kind != COPY_IN:
                entry.tokens = list(copy.tokens)
        else:
            raise LookupError("no such transfer")

    def _worker(self, name: str) -> ThreadPoolExecutor:
        worker = self._workers.get(name)
        if worker is None:
            worker = self._workers[name] = ThreadPoolExecutor(1, name)
        return worker
