"""Copies of KV on the host that are still true: of sequences that came back, and of turns that ended.

KV is only ever appended: of a sequence that was on the host and came back, all full blocks of that time are still
true, and the next way out moves the blocks after them. When a turn ends and the device is nearly full, what the host
lacks of it is copied there; the next turn starts from the host unless the device's prefix cache holds more. Where there
is no room, the oldest turns are forgotten first, then the copies of those who come last in the ordering's order.

Source: Shen et al., "FastSwitch", 2024, KV reuse across turns: copies of low priority are overwritten first. Differs:
an ended turn has no priority any more; the oldest goes.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import TYPE_CHECKING, NamedTuple, cast

from headway.core.plan import KEEP
from headway.core.protocols import HostCopies
from headway.core.request import Request
from headway.core.sequence import RUNNING, Sequence

if TYPE_CHECKING:
    from headway.runtime.instance import Instance, InstanceOptions
    from headway.runtime.traits import CopyTraits

_AMPLE = (
    4  # while a fourth of the device's blocks is unused, its prefix cache keeps turns by itself
)
_LOOKS = 8  # waiting sequences that are compared with the host before a plan


class _Turn(NamedTuple):
    request_id: int
    blocks: int


class Copies:
    """An instance's copies, as its memory policy wants them. `held` blocks, none of what is swapped out."""

    def __init__(self, instance: Instance, traits: CopyTraits, options: InstanceOptions) -> None:
        self._instance, self._traits, self._salted = instance, traits, options.salted
        self._host_blocks = options.host_blocks
        self.held = 0
        self._true: dict[Sequence, int] = {}  # blocks from the first on, of who is on the device
        self._turns: dict[tuple[str, int], _Turn] = {}  # by the extent that names a whole turn

    # -- of sequences that are here ----------------------------------------------------------------------------------

    def returned(self, sequence: Sequence) -> None:
        """It came back from the host; a block that is not full yet will change."""
        blocks = sequence.computed_tokens // self._instance.pool.block_tokens
        if self._traits.incremental and blocks:
            self._true[sequence] = blocks
            self.held += blocks
            self.fit()
        else:
            self._drop(sequence.id)

    def take(self, sequence: Sequence) -> int:
        """Blocks the host has of a sequence that goes there again; they are counted as swapped out now."""
        blocks = self._true.pop(sequence, 0)
        self.held -= blocks
        return blocks

    def forget(self, sequence: Sequence) -> None:
        """Its KV is dropped, or lives elsewhere."""
        if self.take(sequence):
            self._drop(sequence.id)

    # -- of turns ----------------------------------------------------------------------------------------------------

    def end_turn(self, sequence: Sequence) -> None:
        """Copy what the host lacks of a sequence that ends; called before its blocks are given back."""
        instance = self._instance
        before = self.take(sequence)
        blocks = sequence.computed_tokens // instance.pool.block_tokens
        wanted = self._traits.turns and sequence.request.next_extent is not None and blocks
        usable = sequence.state == RUNNING and not sequence.leases and not instance.stopped
        if wanted and usable and blocks <= self._most() and self._device_is_full():
            instance.moves.start(KEEP, sequence, first=before, blocks=blocks - before)
            instance.moves.hold()
        elif before:
            self._drop(sequence.id)

    def kept(self, sequence: Sequence, blocks: int) -> None:
        """All of a turn is on the host."""
        name = self._name(sequence.request, cast("int", sequence.request.next_extent))
        old = self._turns.pop(name, None)
        if old is not None:
            self._forget_turn(old)
        self._turns[name] = _Turn(sequence.id, blocks)
        self.held += blocks
        self.fit()

    def adopt(self, waiting: Seq[Sequence]) -> None:
        """Let those first in line start from the host: they are swapped out from now on."""
        if not self._turns:
            return
        pool, moves = self._instance.pool, self._instance.moves
        for sequence in waiting[:_LOOKS]:
            request = sequence.request
            if sequence.swapped or sequence.computed_tokens or not request.prefix:
                continue
            name = self._longest(request)
            if name is None:
                continue
            nodes = pool.index.match(request, pool.block_tokens) if pool.index else ()
            turn = self._turns[name]
            blocks = min(turn.blocks, (request.prompt_tokens - 1) // pool.block_tokens)
            if not blocks or (nodes and nodes[-1].end_blocks >= blocks):
                continue
            del self._turns[name]
            self.held -= turn.blocks
            cast("HostCopies", self._instance.executor).adopt_copy(turn.request_id, sequence.id)
            sequence.swapped = True
            sequence.computed_tokens = sequence.cached_tokens = blocks * pool.block_tokens
            moves.host_held += blocks

    def fit(self) -> None:
        """Forget copies until the others fit."""
        most = self._most()
        while self.held > most and self._turns:
            self._forget_turn(self._turns.pop(next(iter(self._turns))))
        while self.held > most:
            self.forget(max(self._true, key=lambda sequence: sequence.order))

    def _device_is_full(self) -> bool:
        """Will the prefix cache soon evict?"""
        pool = self._instance.pool
        if pool.index is None:
            return True
        return (pool.free - pool.index.evictable_blocks) * _AMPLE < pool.total

    def _most(self) -> int:
        if self._host_blocks is None:
            return self._traits.blocks
        return min(self._traits.blocks, self._host_blocks - self._instance.moves.host_held)

    def _longest(self, request: Request) -> tuple[str, int] | None:
        """The deepest of its extents that names a kept turn."""
        for extent, _ in reversed(request.prefix):
            name = self._name(request, extent)
            if name in self._turns:
                return name
        return None

    def _name(self, request: Request, extent: int) -> tuple[str, int]:
        return (request.tenant if self._salted else "", extent)

    def _forget_turn(self, turn: _Turn) -> None:
        self.held -= turn.blocks
        self._drop(turn.request_id)

    def _drop(self, request_id: int) -> None:
        cast("HostCopies", self._instance.executor).drop_copy(request_id)
