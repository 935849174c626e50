"""KV memory in blocks: who holds which, and who may not let go yet. Knows nothing of steps or policies.

Blocks are numbered lazily: a pool of a million blocks costs nothing until they are used.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq, Set as AbstractSet

from headway.core.plan import Work
from headway.core.sequence import FINISHED, Sequence
from headway.runtime.prefix_index import PrefixIndex

_FRESH = 64  # blocks numbered at a time


class BlockPool:
    """Every block is free (fresh, recycled or evictable from the prefix cache) or held by sequences."""

    def __init__(
        self, total: int, block_tokens: int = 16, *, index: PrefixIndex | None = None
    ) -> None:
        self.total, self.block_tokens, self.index = total, block_tokens, index
        self._recycled: list[int] = []
        self._fresh = 0  # blocks never used start here

    @property
    def free(self) -> int:
        """Blocks that `grow` can take, evicting cached prefixes where needed."""
        cached = self.index.evictable_blocks if self.index is not None else 0
        return len(self._recycled) + self.total - self._fresh + cached

    def unused(self) -> list[int]:
        """Blocks that nobody holds and no prefix is cached in, for whoever looks over the books."""
        return [*self._recycled, *range(self._fresh, self.total)]

    def missing(self, sequence: Sequence, tokens: int) -> int:
        """Blocks `sequence` lacks to hold `tokens` tokens of KV; never negative."""
        return max(0, -(-tokens // self.block_tokens) - len(sequence.blocks))

    def private_blocks(self, sequence: Sequence, pinned: AbstractSet[object] = frozenset()) -> int:
        """Blocks that become free when `sequence` gives back: its own, and extents nobody else holds.

        `pinned` extents count as held: a sequence of the same plan starts on them.
        """
        if not sequence.nodes or not self.index:
            return len(sequence.blocks)
        return len(sequence.blocks) - self.index.shared_blocks(sequence.nodes, pinned)

    def grow(self, sequence: Sequence, tokens: int) -> None:
        """Give `sequence` room for `tokens` tokens in all."""
        count = -(-tokens // self.block_tokens) - len(sequence.blocks)
        if count > 0:
            recycled = self._recycled
            if len(recycled) < count:
                self._refill(count)
            sequence.blocks += recycled[-count:]
            del recycled[-count:]
            sequence.capacity_tokens += count * self.block_tokens

    def advance(self, sequences: Seq[Sequence], tokens: int) -> None:
        """Give each of `sequences` room for `tokens` tokens more than it has computed."""
        size, recycled = self.block_tokens, self._recycled
        for sequence in [s for s in sequences if s.computed_tokens + tokens > s.capacity_tokens]:
            if recycled and sequence.computed_tokens + tokens <= sequence.capacity_tokens + size:
                sequence.blocks.append(recycled.pop())
                sequence.capacity_tokens += size
            else:
                self.grow(sequence, sequence.computed_tokens + tokens)

    def _refill(self, count: int) -> None:
        """Have at least `count` blocks at hand: fresh ones first, then the least recently used prefixes'."""
        recycled = self._recycled
        fresh = min(self.total - self._fresh, max(count, _FRESH))
        if fresh > 0:
            recycled[:0] = range(self._fresh, self._fresh + fresh)
            self._fresh += fresh
        lacking = count - len(recycled)
        if lacking > 0:
            assert self.index and lacking <= self.index.evictable_blocks, "plans are checked"
            recycled += self.index.evict(lacking)

    def _take_back(self, blocks: list[int]) -> None:
        """These are free now."""
        self._recycled += blocks

    def start(self, sequence: Sequence, nodes: Seq[object]) -> None:
        """Let a sequence without blocks begin on cached prefix extents."""
        assert self.index is not None and not sequence.blocks
        sequence.blocks = self.index.hold(nodes)
        sequence.nodes = tuple(nodes)
        sequence.capacity_tokens = len(sequence.blocks) * self.block_tokens
        sequence.computed_tokens = sequence.cached_tokens = sequence.capacity_tokens

    def publish(self, sequence: Sequence, *, ended: bool = False) -> None:
        """Put the extents whose KV is complete into the prefix index; equal ones become shared.

        Not while a step is in flight, which may hold the old block table. When the sequence has `ended` it is the
        last time to do so: then what is new is put there, and the table stays.
        """
        if not (sequence.request.prefix or ended):
            return
        if self.index and sequence.blocks and (ended or not sequence.leases):
            self._take_back(self.index.publish(sequence, self.block_tokens, ended=ended))

    def give_back(self, sequence: Sequence) -> None:
        """Free all blocks of `sequence`, or leave them to the last lease: `end_lease` calls again."""
        if sequence.leases or not sequence.blocks:
            return
        if sequence.nodes and self.index:
            shared = self.index.release(sequence.nodes)
            self._take_back(sequence.blocks[shared:])
            sequence.nodes = ()
        else:
            self._take_back(sequence.blocks)
        sequence.blocks = []
        sequence.capacity_tokens = 0

    def end_lease(self, sequence: Sequence) -> None:
        """A step or transfer over this sequence's blocks is over."""
        sequence.leases -= 1
        if not sequence.leases:
            sequence.lane = None
            if sequence.state == FINISHED:
                self.give_back(sequence)

    def repeats_until_full(self, works: Seq[Work], tokens: int, cap: int) -> int:
        """Most repeats of `works`, of `tokens` tokens in all, that fit before blocks run out; 1 to `cap`.

        Called once the first step's blocks were taken. Growth never shrinks and is within a block a
        sequence of the tokens' share: the count is bisected between those two bounds.
        """
        size, free, count = self.block_tokens, self.free, len(works)
        if cap * tokens // size + count <= free:
            return cap
        rooms = [(work[0].capacity_tokens - work[0].computed_tokens, work[1]) for work in works]
        room = sum([left for left, _ in rooms])
        high = min(cap, (free * size + room) // tokens + 1)
        low = max(1, min(high, ((free - count) * size) // tokens))
        while low < high:
            repeats = (low + high + 1) // 2
            grown = 0
            for left, each in rooms:
                if repeats * each > left:
                    grown -= (left - repeats * each) // size
            low, high = (repeats, high) if grown <= free else (low, repeats - 1)
        return low
