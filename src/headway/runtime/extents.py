"""KV memory in extents: tables stay block by block, but a sequence's blocks lie side by side where they can.

Blocks are taken in groups: what a sequence does not need yet of its group is reserved for it, so that sequences that
grow side by side do not break each other up. Reserved blocks still count as free: when no extent is left, the largest
reserve of another sequence is split. An extent in use is never moved.

Source: Shen et al., "FastSwitch: Optimizing Context Switching Efficiency in Fairness-aware Large Language Model
Serving", 2024, dynamic block groups. Differs: which free extent is taken is not said there; here the smallest that
holds a group, else the largest.
Cost: O(free extents) per group taken, O(blocks log blocks) per sequence given back.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence as Seq

from headway.core.sequence import Sequence
from headway.runtime.blocks import BlockPool
from headway.runtime.prefix_index import PrefixIndex


def pool_of(
    blocks: int, block_tokens: int, index: PrefixIndex | None, group_blocks: int
) -> BlockPool:
    """The pool of a memory policy: extents when it takes blocks in groups of more than one."""
    if group_blocks > 1:
        return ExtentPool(blocks, block_tokens, index=index, group_blocks=group_blocks)
    return BlockPool(blocks, block_tokens, index=index)


def extents_of(blocks: Seq[int]) -> int:
    """Runs of consecutive block numbers: what has to be copied one by one."""
    return sum(b != a + 1 for a, b in itertools.pairwise(blocks)) + bool(blocks)


class ExtentPool(BlockPool):
    """Every block is in a free extent, reserved for a sequence, held, or cached."""

    def __init__(
        self,
        total: int,
        block_tokens: int = 16,
        *,
        index: PrefixIndex | None = None,
        group_blocks: int = 32,
    ) -> None:
        super().__init__(total, block_tokens, index=index)
        self._fresh = total
        self._group = group_blocks
        self._ends: dict[int, int] = {0: total} if total else {}  # free extents: first -> end
        self._firsts: dict[int, int] = {total: 0} if total else {}  # ... and back
        self._reserved: dict[Sequence, tuple[int, int]] = {}  # [next, end) of its group
        self._free = total  # in free extents and reserves

    @property
    def free(self) -> int:
        """Blocks that `grow` can take: other sequences' reserves included."""
        return self._free + (self.index.evictable_blocks if self.index is not None else 0)

    @property
    def free_extents(self) -> int:
        """Pieces that free memory lies in, reserves aside."""
        return len(self._ends)

    def unused(self) -> list[int]:
        """Blocks that nobody holds and no prefix is cached in."""
        pieces = [*self._ends.items(), *self._reserved.values()]
        return [block for first, end in pieces for block in range(first, end)]

    def grow(self, sequence: Sequence, tokens: int) -> None:
        """Give `sequence` room for `tokens` tokens in all: first from its own group."""
        count = -(-tokens // self.block_tokens) - len(sequence.blocks)
        if count <= 0:
            return
        if count > self._free:
            assert self.index is not None, "plans are checked"
            self._take_back(self.index.evict(count - self._free))
        sequence.capacity_tokens += count * self.block_tokens
        self._free -= count
        while count:
            first, end = self._reserved.pop(sequence, (0, 0))
            if first == end:
                first, end = self._next_group(max(count, self._group), sequence.blocks[-1:])
            used = min(count, end - first)
            sequence.blocks += range(first, first + used)
            count -= used
            if first + used < end:
                self._reserved[sequence] = (first + used, end)

    def advance(self, sequences: Seq[Sequence], tokens: int) -> None:
        """Give each of `sequences` room for `tokens` tokens more than it has computed."""
        for sequence in sequences:
            if sequence.computed_tokens + tokens > sequence.capacity_tokens:
                self.grow(sequence, sequence.computed_tokens + tokens)

    def give_back(self, sequence: Sequence) -> None:
        """Free all blocks of `sequence` and the rest of its group, or leave them to the last lease."""
        super().give_back(sequence)
        if not sequence.blocks and sequence in self._reserved:
            self._insert(*self._reserved.pop(sequence))

    def _next_group(self, wanted: int, last: Seq[int]) -> tuple[int, int]:
        """Take at most `wanted` blocks side by side out of what is free, best right after `last`."""
        if not self._ends:
            return self._split_reserve()
        if last and last[0] + 1 in self._ends:
            first = last[0] + 1
        else:
            ends = self._ends
            fits = [(end - at, at) for at, end in ends.items() if end - at >= wanted]
            first = min(fits)[1] if fits else -max((end - at, -at) for at, end in ends.items())[1]
        size = self._ends.pop(first) - first
        del self._firsts[first + size]
        end = first + min(size, wanted)
        if end < first + size:
            self._ends[end], self._firsts[first + size] = first + size, end
        return first, end

    def _split_reserve(self) -> tuple[int, int]:
        """The rear half of the largest reserve: its owner may still need the front."""
        owner, (first, end) = max(
            self._reserved.items(), key=lambda item: (item[1][1] - item[1][0], item[1][0])
        )
        middle = (first + end) // 2
        if middle > first:
            self._reserved[owner] = (first, middle)
        else:
            del self._reserved[owner]
        return middle, end

    def _take_back(self, blocks: list[int]) -> None:
        """Put blocks back, joined with their free neighbours."""
        self._free += len(blocks)
        ordered = sorted(blocks)
        start = 0
        for n in range(1, len(ordered) + 1):
            if n == len(ordered) or ordered[n] != ordered[n - 1] + 1:
                self._insert(ordered[start], ordered[n - 1] + 1)
                start = n

    def _insert(self, first: int, end: int) -> None:
        if first in self._firsts:  # a free extent ends where this one begins
            before = self._firsts.pop(first)
            del self._ends[before]
            first = before
        if end in self._ends:
            after = self._ends.pop(end)
            del self._firsts[after]
            end = after
        self._ends[first], self._firsts[end] = end, first
