"""Sequences on their way out: computed prompts that wait for an instance that decodes, and migrations in stages.

A migration copies full blocks while its sequence decodes on, then those appended since; once at most
`last_stage_blocks` are left the sequence stops and the rest goes with its state. So its downtime does not grow with
its length. The source keeps everything until the fleet says that the sequence is gone.

Source: Sun et al., "Llumnix: Dynamic Scheduling for Large Language Model Serving", OSDI 2024, live migration.
Differs: the destination pulls, so it pays for the link; a sequence without KV (it waits) moves at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from headway.core.fleet import MOVED, PREFILL, Handoff
from headway.core.plan import COPY_OUT, EXPORT
from headway.core.protocols import WAKE
from headway.core.request import Request
from headway.core.sequence import FINISHED, LEAVING, RUNNING, WAITING, Sequence

if TYPE_CHECKING:
    from headway.runtime.instance import Instance, InstanceOptions
    from headway.runtime.moves import Moves

OnReady = Callable[[Handoff | None], None]


class Export:
    """One sequence's way out."""

    __slots__ = ("due", "on_ready", "peer", "preemptions", "reached", "sent", "stages", "stopped")

    def __init__(self, preemptions: int) -> None:
        self.peer = ""
        self.on_ready: OnReady | None = None  # set while the fleet waits for a part
        self.preemptions = preemptions  # when it began: another one ends it
        self.sent = 0  # blocks that are there already
        self.reached = 0  # ... once the part under way is
        self.stages = 0
        self.due = False  # to be stopped once no step holds it
        self.stopped = False


class Exports:
    """All of an instance. `parked` are prompts that a prefill instance has computed."""

    def __init__(self, instance: Instance, moves: Moves, options: InstanceOptions) -> None:
        self._instance, self._moves = instance, moves
        self._last_blocks, self._most_stages = options.last_stage_blocks, options.most_stages
        self.open: dict[int, Export] = {}
        self.parked: dict[int, Sequence] = {}
        self.due = 0  # exports that wait for a step to land
        self.on_computed: Callable[[Request], None] = lambda request: None

    # -- prompts that were computed here ---------------------------------------------------------------------------

    def park(self, sequence: Sequence) -> None:
        """Its prompt is computed: it keeps its blocks, leaves the queues, and the fleet is told."""
        instance = self._instance
        if instance.pool.index and sequence.request.prefix:
            instance.pool.publish(sequence)
        instance.queues.remove(sequence)
        sequence.state = LEAVING
        self.parked[sequence.id] = sequence
        tell = partial(self._tell, sequence)
        instance.clock.call_at(instance.clock.now_ns(), tell, WAKE, sequence.id)

    def _tell(self, sequence: Sequence) -> None:
        if sequence.id in self.parked:
            self.on_computed(sequence.request)

    def unpark(self) -> None:
        """Nobody takes them over any more: go on here."""
        for sequence in [s for s in self.parked.values() if s.id not in self.open]:
            del self.parked[sequence.id]
            self._instance.queues.enter(sequence)

    # -- parts -------------------------------------------------------------------------------------------------------

    def next_part(self, sequence: Sequence, peer: str, on_ready: OnReady) -> None:
        """Copy out the first part, or the next one."""
        export = self.open.get(sequence.id)
        if export is None:
            export = self.open[sequence.id] = Export(sequence.preemptions)
        export.peer, export.on_ready = peer, on_ready
        here = sequence.id in self.parked or (
            sequence.state in (RUNNING, WAITING)
            and not (sequence.swapped or sequence.denoises)  # a handoff tells no denoising steps
        )
        if not here or sequence.preemptions != export.preemptions:
            self._refuse(sequence.id)
            return
        left = self._moves.filled(sequence) - export.sent
        export.stages += 1
        if sequence.state == RUNNING and left > self._last_blocks:
            if export.stages >= self._most_stages:
                self._refuse(sequence.id)
            else:
                self._copy(sequence, export)
            return
        export.due = True
        self.due += 1
        self.stop_due()

    def _copy(self, sequence: Sequence, export: Export) -> None:
        """A stage: full blocks only, which no step writes any more."""
        export.reached = sequence.computed_tokens // self._instance.pool.block_tokens
        blocks = export.reached - export.sent
        self._moves.start(COPY_OUT, sequence, export.peer, export.sent, blocks)

    def stop_due(self) -> None:
        """Stop the sequences that no step holds; called whenever a step or transfer has landed."""
        for request_id, export in list(self.open.items()):
            sequence = self._instance.sequences.get(request_id)
            if not export.due or (sequence and sequence.leases):
                continue
            self._undue(export)
            parked = request_id in self.parked
            if sequence is None or sequence.preemptions != export.preemptions:
                self._refuse(request_id)
            elif parked or (sequence.state in (RUNNING, WAITING) and not sequence.swapped):
                self._stop(sequence, export, parked=parked)
            else:
                self._refuse(request_id)

    def _stop(self, sequence: Sequence, export: Export, *, parked: bool) -> None:
        if not parked:
            self._instance.queues.remove(sequence)
            sequence.state, sequence.partial = LEAVING, None
        export.stopped, export.reached = True, self._moves.filled(sequence)
        blocks = export.reached - export.sent
        if blocks:
            self._moves.start(EXPORT, sequence, export.peer, export.sent, blocks)
        else:
            self._ready(sequence, export)

    def landed(self, sequence: Sequence) -> None:
        """A part is ready to be pulled."""
        export = self.open.get(sequence.id)
        if export is None or sequence.state == FINISHED:
            return  # it ended on the way: the fleet has heard
        if sequence.preemptions != export.preemptions:
            self._refuse(sequence.id)
        else:
            self._ready(sequence, export)

    def _ready(self, sequence: Sequence, export: Export) -> None:
        handoff = Handoff(
            sequence.id,
            sequence.total_tokens,
            sequence.computed_tokens,
            sequence.output_tokens,
            export.reached - export.sent,
            sequence.first_token_ns,
            sequence.last_token_ns,
            sequence.started_ns,
            sequence.cached_tokens,
            sequence.preemptions,
            tuple(sequence.output_ids or ()),
            export.sent,
            last=export.stopped,
        )
        export.sent = export.reached
        on_ready, export.on_ready = export.on_ready, None
        if on_ready:
            on_ready(handoff)

    def _refuse(self, request_id: int) -> None:
        export = self.open.pop(request_id)
        if export.due:
            self._undue(export)
        if export.on_ready:
            export.on_ready(None)

    def _undue(self, export: Export) -> None:
        export.due = False
        self.due -= 1

    # -- the end -------------------------------------------------------------------------------------------------------

    def end(self, request_id: int, *, gone: bool) -> bool:
        """Forget it, or go on with it; False when it had ended before."""
        instance = self._instance
        export, sequence = self.open.pop(request_id, None), instance.sequences.get(request_id)
        if export and export.due:
            self._undue(export)
        if sequence is None or export is None or not export.stopped:
            return False
        if gone:
            self.parked.pop(request_id, None)
            sequence.state = FINISHED
            instance.pool.give_back(sequence)
            del instance.sequences[request_id]
            instance.prompt_tokens -= sequence.request.prompt_tokens
            instance.executor.release(request_id)
            instance.tell(instance.ears.ended, sequence, MOVED)
            del sequence.decode
        elif request_id not in self.parked or instance.role != PREFILL:
            self.parked.pop(request_id, None)
            instance.queues.enter(sequence)
        return True

    def forget(self, sequence: Sequence) -> None:
        """It has ended here."""
        self.parked.pop(sequence.id, None)
        if sequence.id in self.open:
            self._refuse(sequence.id)
