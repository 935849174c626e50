"""KV on the move: preemption and swap, and the transfers of exports and imports."""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq
from functools import partial
from typing import TYPE_CHECKING, cast

from headway.core.plan import (
    COPY_IN,
    COPY_OUT,
    EXPORT,
    IMPORT,
    KEEP,
    SWAP_IN,
    SWAP_OUT,
    StepPlan,
    Transfer,
)
from headway.core.protocols import COPIES, HostCopies
from headway.core.sequence import ENTERING, FINISHED, LEAVING, Sequence
from headway.runtime.exports import Exports
from headway.runtime.extents import extents_of
from headway.runtime.host_copies import Copies
from headway.runtime.imports import Imports
from headway.runtime.traits import copies_of, group_blocks_of, waits_of

if TYPE_CHECKING:
    from headway.runtime.instance import Instance, InstanceOptions


_WITH_HOST = (SWAP_OUT, SWAP_IN, KEEP)


class Moves:
    """The instance's movers. Counts what is under way and what the host holds.

    Every transfer is a lease on the sequence's blocks, but for `copy_out`: it reads full blocks of a sequence that
    goes on, and comes to nothing when that ends or is preempted meanwhile.
    """

    def __init__(self, instance: Instance, options: InstanceOptions) -> None:
        self._instance = instance
        self._ids = 0
        self.under_way = 0
        self.host_blocks = options.host_blocks
        self.host_held = 0
        self.leaving_blocks = 0  # free once the swaps under way are over
        self._leaving: dict[Sequence, int] = {}
        self.moved_blocks = self.moved_extents = (
            0  # to the host and back; their ratio is the mean extent
        )
        self._group = group_blocks_of(instance.memory)
        self._waits = waits_of(instance.memory)
        self._swaps = 0  # under way
        self.held = False  # lanes wait until no swap is under way ...
        self.deferred: list[
            Callable[[], None]
        ] = []  # ... and so do steps that were planned with one
        traits = copies_of(instance.memory)
        self.copies = Copies(instance, traits, options) if traits else None
        self.exports = Exports(instance, self, options)
        self.imports = Imports(instance, self, options)

    @property
    def pending(self) -> bool:
        """Will something move, or stop moving, without a step?"""
        return bool(
            self.under_way or self.exports.parked or self.exports.open or self.imports.entering
        )

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
            if self.copies:
                self.copies.forget(sequence)
            pool.give_back(sequence)
            queues.add_waiting(sequence)
        for sequence in draft.swapped_out:
            queues.remove(sequence)
            sequence.state, sequence.partial = LEAVING, None
            sequence.preemptions += 1
            self._leave(sequence)
        for sequence in draft.swapped_in:
            queues.remove(sequence)
            sequence.state = ENTERING
            pool.grow(sequence, sequence.computed_tokens)
            self.start(SWAP_IN, sequence)
        instance.preemptions += len(draft.preempted) + len(draft.swapped_out)

    def must_wait(self) -> bool:
        """Do the lanes wait for what the draft swaps? Then no step begins until it has landed."""
        draft = self._instance.view.draft
        if draft.swapped_out or draft.swapped_in:
            self.hold()
        return self.held

    def hold(self) -> None:
        """Something goes to the host or back: let the lanes wait for it if the memory policy says so."""
        if self._waits:
            self.held = self._waits(self._instance.view)

    def _go_on(self) -> None:
        self.held = False
        deferred, self.deferred = self.deferred, []
        for execute in deferred:
            execute()

    def _leave(self, sequence: Sequence) -> None:
        """To the host, without what is there already."""
        true = self.copies.take(sequence) if self.copies else 0
        blocks = self.filled(sequence)
        self.host_held += blocks
        if self.copies:
            self.copies.fit()
        self._leaving[sequence] = self._instance.pool.private_blocks(sequence)
        self.leaving_blocks += self._leaving[sequence]
        self.start(SWAP_OUT, sequence, first=true, blocks=blocks - true)

    def host_has_room(self, sequence: Sequence) -> bool:
        """May `sequence` be swapped out?"""
        if self.host_blocks is None:
            return True
        leaving = sum(len(other.blocks) for other in self._instance.view.draft.swapped_out)
        return self.host_held + leaving + len(sequence.blocks) <= self.host_blocks

    def forget(self, sequence: Sequence, *, whole: bool) -> None:
        """It has ended: a copy on the host is dropped unless a `whole` turn is kept, and so is its way out."""
        self._forget_host(sequence)
        if self.copies:
            self.copies.end_turn(sequence, whole=whole)
        if self.exports.parked or self.exports.open:
            self.exports.forget(sequence)

    def _forget_host(self, sequence: Sequence) -> None:
        """A swapped-out sequence ended or is back: its copy on the host is dropped."""
        if sequence.swapped:
            self.host_held -= self.filled(sequence)
            sequence.swapped = False

    def filled(self, sequence: Sequence) -> int:
        """Blocks that hold KV: drafts that were not accepted leave one behind that holds none."""
        return -(-sequence.computed_tokens // self._instance.pool.block_tokens)

    def start(
        self,
        kind: str,
        sequence: Sequence,
        peer: str = "host",
        first: int = 0,
        blocks: int | None = None,
    ) -> None:
        """Hand a transfer to the executor; None: all blocks that hold KV."""
        self._ids += 1
        self.under_way += 1
        if kind != COPY_OUT:
            sequence.leases += 1
        key = (self._instance.key << 32) + self._ids
        count = self.filled(sequence) if blocks is None else blocks
        extents = 1
        if kind in _WITH_HOST:
            self._swaps += 1
            extents = self._extents(sequence.blocks[first : first + count])
        elif self.copies:
            self.copies.forget(sequence)
        transfer = Transfer(key, kind, sequence, count, peer, first, extents)
        self._instance.executor.transfer(transfer, partial(self._instance.transfer_done, transfer))

    def _extents(self, blocks: Seq[int]) -> int:
        """Pieces that these blocks are copied in."""
        if not self._group:
            return 1
        extents = len(blocks) if self._group == 1 else extents_of(blocks)
        self.moved_blocks += len(blocks)
        self.moved_extents += extents
        return extents

    def landed(self, transfer: Transfer) -> None:
        """Settle the books of a transfer that is over."""
        instance, sequence, kind = self._instance, transfer.sequence, transfer.kind
        self.under_way -= 1
        if kind in _WITH_HOST:
            self._swaps -= 1
            if self.held and not self._swaps:
                self._go_on()
            if kind == SWAP_OUT:
                self.leaving_blocks -= self._leaving.pop(sequence)
        if kind != COPY_OUT:
            instance.pool.end_lease(sequence)
        if kind == SWAP_IN:
            self._returned(sequence)
        if kind in (EXPORT, COPY_OUT):
            self.exports.landed(sequence)
        elif kind in (IMPORT, COPY_IN):
            self.imports.landed(sequence)
        elif sequence.state == FINISHED:
            if kind == SWAP_OUT:
                self.host_held -= transfer.first + transfer.blocks
            elif kind == KEEP and self.copies and not instance.stopped:
                self.copies.kept(sequence, transfer.first + transfer.blocks)
        elif kind == SWAP_IN:
            instance.queues.enter(sequence)
        else:
            instance.pool.give_back(sequence)
            sequence.swapped = True
            instance.queues.add_waiting(sequence)

    def _returned(self, sequence: Sequence) -> None:
        """It is back, unless it ended on the way."""
        here = sequence.swapped
        self._forget_host(sequence)
        if here and self.copies:
            self.copies.returned(sequence)
        elif here and COPIES in self._instance.executor.offers:
            cast("HostCopies", self._instance.executor).drop_copy(sequence.id)
        if sequence.started_ns < 0:  # it starts from the copy of an earlier turn
            sequence.started_ns = self._instance.clock.now_ns()
