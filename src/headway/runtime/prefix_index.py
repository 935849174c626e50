"""Prefix cache: extents of KV blocks by content hash, salted by tenant, evicted least recently used first.

An extent ends at a block boundary; a block that straddles two extents belongs to the later one, whose hash
names everything up to its end. Whoever holds an extent holds all before it, and a sequence releases its
deepest extent first: so in eviction order no extent comes after the one it continues.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence as Seq, Set as AbstractSet
from typing import cast

from headway.core.request import Request
from headway.core.sequence import Sequence

NameAnswer = Callable[[Sequence], Seq[int]]
"""Hashes of the whole blocks that continue a sequence's prompt; none where nobody can know them."""


class PrefixNode:
    """One cached extent. Its blocks belong to the index, not to the sequences that hold it."""

    __slots__ = ("blocks", "end_blocks", "hash", "holders", "tenant")

    def __init__(self, tenant: str, extent_hash: int, blocks: list[int], end_blocks: int) -> None:
        self.tenant, self.hash, self.blocks = tenant, extent_hash, blocks
        self.end_blocks = (
            end_blocks  # blocks from the start of the prompt to the end of this extent
        )
        self.holders = 1


class PrefixIndex:
    """Finds cached prefixes. `salted=False` shares them between tenants (a timing side channel).

    `names` gives the blocks of answers their hashes, where prompts are named block by block.
    """

    def __init__(self, *, salted: bool = True, names: NameAnswer | None = None) -> None:
        self._salted, self._names = salted, names
        self._nodes: dict[str, dict[int, PrefixNode]] = {}
        self._unheld: OrderedDict[PrefixNode, None] = OrderedDict()
        self.evictable_blocks = 0
        self.held_blocks = 0

    def match(self, request: Request, block_tokens: int) -> list[PrefixNode]:
        """Find the longest cached prefix. Pure: `hold` refreshes recency.

        Leaves at least one prompt token to compute: a hit alone samples nothing.
        """
        nodes = self._nodes.get(request.tenant if self._salted else "")
        found: list[PrefixNode] = []
        if not nodes:
            return found
        most = (request.prompt_tokens - 1) // block_tokens
        for extent_hash, _ in request.prefix:
            node = nodes.get(extent_hash)
            if node is None or node.end_blocks > most:
                break
            found.append(node)
        return found

    def unheld_blocks(self, nodes: Seq[PrefixNode]) -> int:
        """Blocks that stop being evictable when `nodes` are held."""
        return sum(len(node.blocks) for node in nodes if not node.holders)

    def shared_blocks(self, nodes: Seq[object], pinned: AbstractSet[object]) -> int:
        """Blocks of `nodes` that others hold too, or will (`pinned`)."""
        return sum(
            len(node.blocks)
            for node in cast("Seq[PrefixNode]", nodes)
            if node.holders > 1 or node in pinned
        )

    def hold(self, nodes: Seq[object]) -> list[int]:
        """Take part in `nodes`; returns their blocks in order."""
        blocks: list[int] = []
        unheld, woken = self._unheld, 0
        for node in cast("Seq[PrefixNode]", nodes):
            if not node.holders:
                del unheld[node]
                woken += len(node.blocks)
            node.holders += 1
            blocks += node.blocks
        self.evictable_blocks -= woken
        self.held_blocks += woken
        return blocks

    def release(self, nodes: Seq[object]) -> int:
        """Stop holding `nodes`; returns how many blocks they cover."""
        unheld, covered, freed = self._unheld, 0, 0
        for node in reversed(cast("Seq[PrefixNode]", nodes)):
            size = len(node.blocks)
            covered += size
            left = node.holders = node.holders - 1
            if not left:
                unheld[node] = None
                freed += size
        self.evictable_blocks += freed
        self.held_blocks -= freed
        return covered

    def evict(self, count: int = 1) -> list[int]:
        """Drop the least recently held extents until `count` blocks are free; returns those freed."""
        oldest, tables, blocks = self._unheld.popitem, self._nodes, list[int]()
        while len(blocks) < count:
            node, _ = oldest(last=False)
            del tables[node.tenant][node.hash]
            blocks += node.blocks
        self.evictable_blocks -= len(blocks)
        return blocks

    def publish(self, sequence: Sequence, block_tokens: int, *, ended: bool) -> list[int]:
        """Index what `sequence` has computed of its prefix; returns blocks that became duplicates.

        An extent that somebody else published meanwhile is shared from here on and our copy is freed; while the
        sequence is leased its table must stay as it is, and such an extent is where it stops.
        `ended`: prompt and output together are indexed too, under the request's `next_extent` or block by block.
        """
        duplicates: list[int] = []
        extents = self._new_extents(sequence, block_tokens, ended=ended)
        if not extents:
            return duplicates
        tenant = sequence.request.tenant if self._salted else ""
        nodes = self._nodes.setdefault(tenant, {})
        held = list(cast("Seq[PrefixNode]", sequence.nodes))
        blocks, start = sequence.blocks, held[-1].end_blocks if held else 0
        for extent_hash, end in extents:
            node = nodes.get(extent_hash)
            if node is None:
                reached = end if end > start else start
                node = PrefixNode(tenant, extent_hash, blocks[start:reached], reached)
                nodes[extent_hash] = node
                self.held_blocks += reached - start
            elif node.end_blocks - len(node.blocks) != start or node.end_blocks > len(blocks):
                break  # the same hash names other tokens
            elif sequence.leases:
                break
            else:
                duplicates += blocks[start : node.end_blocks]
                blocks[start : node.end_blocks] = self.hold([node])
            held.append(node)
            start = node.end_blocks
        sequence.nodes = tuple(held)
        return duplicates

    def _new_extents(
        self, sequence: Sequence, block_tokens: int, *, ended: bool
    ) -> list[tuple[int, int]]:
        """Hash and end, in blocks, of the extents whose KV is complete beyond those that are held."""
        request, computed = sequence.request, sequence.computed_tokens
        prefix, depth = request.prefix, len(sequence.nodes)
        new: list[tuple[int, int]] = []
        if depth < len(prefix):
            end = sum([tokens for _, tokens in prefix[:depth]])
            for extent_hash, tokens in prefix[depth:]:
                end += tokens
                if end > computed:
                    return new
                new.append((extent_hash, end // block_tokens))
        if ended and depth <= len(prefix):
            if request.next_extent is not None:
                new.append((request.next_extent, computed // block_tokens))
            elif self._names is not None:
                first, full = request.prompt_tokens // block_tokens + 1, computed // block_tokens
                named = enumerate(self._names(sequence), first)
                new += [(found, n) for n, found in named if n <= full]
        return new
