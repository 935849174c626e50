"""Steps on a PyTorch model, a thread a lane; results come back through `clock.post`.

A step looks at its stop flag between two layers. Steps of a lane run in the order they were given; a step
may be given before the result of the one before it has landed: tokens are known to the worker first.
Lanes compute side by side; those whose steps have a share take turns, layer by layer (`time_slices`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch

from headway.core.plan import (
    COPY_IN,
    COPY_OUT,
    DONE,
    EXPORT,
    FAILED,
    IMPORT,
    INTERRUPTED,
    KEEP,
    LAYER,
    SWAP_IN,
    SWAP_OUT,
    Step,
    StepResult,
    Transfer,
)
from headway.core.protocols import COPIES, DRAFTS, LANES, LAYERS, SHARES, TRANSFERS, Clock
from headway.core.sequence import Sequence
from headway.engine.books import Books, Entry, Job
from headway.engine.compute import Compute, Computed
from headway.engine.decoder import Decoder
from headway.engine.drafter import Drafter
from headway.engine.host_copies import HostTable
from headway.engine.kv_exchange import KvExchange
from headway.engine.kv_pool import KvPool
from headway.engine.time_slices import TimeSlicer, Turn

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

    def go_on_in_turn(self, turn: Turn, layers: int) -> bool:
        """Likewise, when it is this step's turn; who stops need not wait for that."""
        if self.go_on(layers):
            turn.next_layer()
        return self.go_on(layers)


class TorchExecutor:
    """Runs steps and moves KV for one instance.

    A request that cannot be computed fails alone, by its own work's `error`. `stops` are the ids at which the
    model ends a sequence (none: only the request's own and `max_tokens` end it). `exchange` is shared by the
    executors of a process that export and import. `threads` is how many compute a step, PyTorch's own choice if
    None. `draft` is a model that proposes tokens, with KV of its own in blocks of the same numbers; what is swapped
    or exported is the model's KV alone, and the drafter computes its own again.

    Raises:
        DoesNotFitError: the memory for KV cannot be had.
        OptionError: the draft model has another vocabulary.
    """

    offers: frozenset[str] = frozenset({LANES, LAYERS, TRANSFERS, COPIES, DRAFTS, SHARES})

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
        draft: Decoder | None = None,
    ) -> None:
        self.layers: int = model.config.layers
        self._clock = clock
        self._pool = KvPool(model.config, blocks, block_tokens, model.dtype)
        drafter = None if draft is None else Drafter(draft, model, self._pool)
        self._compute = Compute(model, self._pool, drafter)
        self._books = Books(self.layers, frozenset(stops))
        self._exchange = exchange or KvExchange()
        self._host = HostTable()
        self._slicer = TimeSlicer()
        self._workers: dict[str, ThreadPoolExecutor] = {}
        self._threads = threads or torch.get_num_threads()

    def execute(self, step: Step, on_done: Callable[[StepResult], None]) -> TorchStepHandle:
        """Queue a step on its lane's thread."""
        assert step.repeats == 1, "leaps are not offered"
        handle, jobs = TorchStepHandle(), self._books.jobs(step)

        def work() -> None:
            try:
                computed = self._run(step, jobs, handle)
            except Exception as error:  # noqa: BLE001 - whatever it is, it ends this step and no other
                result = StepResult(FAILED, (), (), f"{type(error).__name__}: {error}")
            else:
                status = INTERRUPTED if computed.stopped else DONE
                result = StepResult(status, computed.done, (), parts_ns=computed.parts_ns)

            def land() -> None:
                Books.landed(jobs)
                on_done(result._replace(ends_ns=[self._clock.now_ns()]))

            self._clock.post(land)

        self._worker(f"headway lane {step.lane}", self._threads).submit(work)
        return handle

    def transfer(self, transfer: Transfer, on_done: Callable[[], None]) -> None:
        """Queue a copy. One that cannot be made fails the sequence's next step, which then says why."""
        entry, request_id = self._books.entry(transfer.sequence), transfer.sequence.request.id
        move = self._move(transfer, request_id, entry)

        def copy() -> None:
            try:
                move()
            except Exception as error:  # noqa: BLE001 - reported by the sequence's next step
                entry.broken = (
                    entry.broken or f"{transfer.kind} of request {request_id} failed: {error}"
                )
            self._clock.post(on_done)

        if transfer.kind != COPY_OUT:
            entry.partial = None  # what moves restarts its chunk
        self._worker(TRANSFER_THREAD, 1).submit(copy)

    def adopt_copy(self, from_id: int, to: Sequence, tokens: int) -> bool:
        """Let the next turn go on with the copy of an ended one, where that is of the tokens it begins with."""
        ids = self._books.entry(to).tokens[:tokens]
        return len(ids) == tokens and self._host.adopt(from_id, to.id, ids)

    def drop_copy(self, request_id: int) -> None:
        """Forget its copy on the host; transfers under way keep theirs until they land."""
        self._host.drop(request_id)

    def release(self, request_id: int) -> None:
        """Forget tokens, hidden states and copies that are not kept; steps in flight keep theirs until they land."""
        self._books.release(request_id)
        self._host.release(request_id)
        self._exchange.drop(request_id)

    def close(self) -> None:
        """Finish what is queued and end the threads; the executor cannot be used afterwards."""
        for worker in self._workers.values():
            worker.shutdown()

    def _run(self, step: Step, jobs: list[Job], handle: TorchStepHandle) -> Computed:
        """Compute a step; on its lane's thread."""
        if step.share is None:
            return self._compute.run(jobs, handle.go_on)
        with self._slicer.step(step.lane, step.share) as turn:
            return self._compute.run(jobs, partial(handle.go_on_in_turn, turn))

    def _move(self, transfer: Transfer, request_id: int, entry: Entry) -> Callable[[], None]:
        """What the transfer thread is to do; whose blocks and which copy is decided now."""
        sequence, kind, first = transfer.sequence, transfer.kind, transfer.first
        blocks = tuple(sequence.blocks[first : first + transfer.blocks])
        if kind in (SWAP_OUT, KEEP, SWAP_IN):
            held = self._host.copy_for(kind, request_id, first)
            computed = sequence.computed_tokens  # tokens are known up to here

            def with_host() -> None:
                if entry.broken:
                    held.spoil(entry.broken)
                elif kind == SWAP_IN:
                    held.bring_back(self._pool, blocks, entry.tokens[:computed])
                else:
                    held.add(self._pool, first, blocks, entry.tokens[:computed], transfer.extents)

            return with_host
        return partial(self._exchanged, kind, first, blocks, request_id, entry)

    def _exchanged(
        self, kind: str, first: int, blocks: tuple[int, ...], request_id: int, entry: Entry
    ) -> None:
        """Leave KV for another executor, or take what one left."""
        if kind in (EXPORT, COPY_OUT):
            tokens = entry.tokens if kind == EXPORT else ()  # it goes on: more will come
            self._exchange.put(request_id, first, self._pool.copy_out(blocks, tokens))
        elif kind in (IMPORT, COPY_IN):
            copy = self._exchange.take(request_id, first)
            if copy is None:
                raise LookupError("there is no copy of its KV in this process")
            self._pool.copy_in(copy, blocks)
            if kind != COPY_IN:
                entry.tokens = list(copy.tokens)
        else:
            raise LookupError("no such transfer")

    def _worker(self, name: str, threads: int) -> ThreadPoolExecutor:
        """Return the worker of this name, which computes with so many threads.

        Only what must be fast gets helpers: more OpenMP threads than cores, even asleep, make all of them
        wait for each other asleep, and a step of one sequence takes half as long again.
        """
        worker = self._workers.get(name)
        if worker is None:
            start = torch.set_num_threads
            worker = ThreadPoolExecutor(1, name, initializer=start, initargs=(threads,))
            self._workers[name] = worker
        return worker
