"""KV on the move: preemption, swap, export and import. Every transfer is a lease on the sequence's blocks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from headway.core.fleet import Handoff
from headway.core.plan import EXPORT, IMPORT, SWAP_IN, SWAP_OUT, StepPlan, Transfer
from headway.core.request import Request
from headway.core.sequence import ENTERING, FINISHED, LEAVING, RUNNING, WAITING, Sequence

if TYPE_CHECKING:
    from headway.runtime.instance import Instance


class Moves:
    """The instance's movers. Counts what is under way and what the host holds."""

    def __init__(self, instance: Instance, host_blocks: int | None) -> None:
        self._instance = instance
        self._ids = 0
        self.under_way = 0
        self.host_blocks = host_blocks
        self.host_held = 0
        self.exports: dict[int, tuple[str, Callable[[Handoff | None], None]]] = {}

    def carry_out(self, plan: StepPlan) -> None:
        """Do what the plan's draft recorded. Order matters: room is made before it is used."""
        draft, instance = self._instance.view.draft, self._instance
        pool, queues = instance.pool, instance.queues
        if draft.matches:
            planned = {work[0] for works in plan.work.values() for work in works}
            for sequence, nodes in draft.matches.items():
                if sequence in planned:  # not: taken, and left out of the plan after all
                    pool.start(sequence, nodes)
        for sequence in draft.preempted:
            queues.remove(sequence)
            sequence.computed_tokens, sequence.partial = 0, None
            sequence.preemptions += 1
            pool.give_back(sequence)
            queues.add_waiting(sequence)
        for sequence in draft.swapped_out:
            queues.remove(sequence)
            sequence.state, sequence.partial = LEAVING, None
            sequence.preemptions += 1
            self.host_held += self._filled(sequence)
            self._start(SWAP_OUT, sequence)
        for sequence in draft.swapped_in:
            queues.remove(sequence)
            sequence.state = ENTERING
            pool.grow(sequence, sequence.computed_tokens)
            self._start(SWAP_IN, sequence)

    def host_has_room(self, sequence: Sequence) -> bool:
        """May `sequence` be swapped out?"""
        if self.host_blocks is None:
            return True
        leaving = sum(len(other.blocks) for other in self._instance.view.draft.swapped_out)
        return self.host_held + leaving + len(sequence.blocks) <= self.host_blocks

    def forget_host(self, sequence: Sequence) -> None:
        """A swapped-out sequence ended or is back: its copy on the host is dropped."""
        if sequence.swapped:
            self.host_held -= self._filled(sequence)
            sequence.swapped = False

    def _filled(self, sequence: Sequence) -> int:
        """Blocks that hold KV: drafts that were not accepted leave one behind that holds none."""
        return -(-sequence.computed_tokens // self._instance.pool.block_tokens)

    def export_to(
        self, sequence: Sequence, peer: str, on_ready: Callable[[Handoff | None], None]
    ) -> None:
        """Move a sequence's KV out as soon as no step holds it."""
        self.exports[sequence.id] = (peer, on_ready)
        self.start_exports()

    def start_exports(self) -> None:
        """Begin the exports whose sequences are idle; called whenever a step has landed."""
        for request_id in list(self.exports):
            sequence = self._instance.sequences.get(request_id)
            if sequence is None:
                self.exports.pop(request_id)[1](None)
            elif (
                not sequence.leases
                and sequence.state in (RUNNING, WAITING)
                and not sequence.swapped
            ):
                self._instance.queues.remove(sequence)
                sequence.state, sequence.partial = LEAVING, None
                self._start(EXPORT, sequence, self.exports[request_id][0])

    def import_from(self, request: Request, handoff: Handoff, peer: str) -> str | None:
        """Take a sequence over: its blocks now, its KV through a transfer. Says why not, or None."""
        instance = self._instance
        sequence = Sequence(request, owner=instance)
        need = instance.pool.missing(sequence, handoff.computed_tokens)
        if need > instance.pool.free:
            return f"needs {need} KV blocks, {instance.pool.free} are free: try another instance or later"
        instance.sequences[request.id] = sequence
        sequence.total_tokens, sequence.computed_tokens = (
            handoff.total_tokens,
            handoff.computed_tokens,
        )
        sequence.output_tokens = handoff.output_tokens
        sequence.first_token_ns, sequence.last_token_ns = (
            handoff.first_token_ns,
            handoff.last_token_ns,
        )
        sequence.output_ids = list(handoff.output_ids) or None
        sequence.started_ns, sequence.cached_tokens = handoff.started_ns, handoff.cached_tokens
        sequence.preemptions = handoff.preemptions
        sequence.state = ENTERING
        instance.pool.grow(sequence, sequence.computed_tokens)
        self._start(IMPORT, sequence, peer)
        return None

    def _start(self, kind: str, sequence: Sequence, peer: str = "host") -> None:
        self._ids += 1
        self.under_way += 1
        sequence.leases += 1
        key = (self._instance.key << 32) + self._ids
        transfer = Transfer(key, kind, sequence, self._filled(sequence), peer)
        self._instance.executor.transfer(transfer, partial(self._instance.transfer_done, transfer))

    def landed(self, transfer: Transfer) -> None:
        """Settle the books of a transfer that is over."""
        instance, sequence = self._instance, transfer.sequence
        self.under_way -= 1
        instance.pool.end_lease(sequence)
        if transfer.kind == SWAP_IN:
            self.forget_host(sequence)  # done already if it ended on the way
        if sequence.state == FINISHED:
            if transfer.kind == SWAP_OUT:
                self.host_held -= transfer.blocks
            return
        if transfer.kind in (SWAP_IN, IMPORT):
            if sequence.computed_tokens:
                instance.queues.add_running(sequence)
            else:
                instance.queues.add_waiting(sequence)
        elif transfer.kind == SWAP_OUT:
            instance.pool.give_back(sequence)
            sequence.swapped = True
            instance.queues.add_waiting(sequence)
        else:
            self._exported(sequence)

    def _exported(self, sequence: Sequence) -> None:
        instance = self._instance
        sequence.state = WAITING
        handoff = Handoff(
            sequence.id,
            sequence.total_tokens,
            sequence.computed_tokens,
            sequence.output_tokens,
            len(sequence.blocks),
            sequence.first_token_ns,
            sequence.last_token_ns,
            sequence.started_ns,
            sequence.cached_tokens,
            sequence.preemptions,
            tuple(sequence.output_ids or ()),
        )
        sequence.state = FINISHED
        instance.pool.give_back(sequence)
        del instance.sequences[sequence.id]
        instance.prompt_tokens -= sequence.request.prompt_tokens
        instance.executor.release(sequence.id)
        self.exports.pop(sequence.id)[1](handoff)
