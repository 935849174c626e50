"""Prefix cache: extents of KV blocks by content hash, salted by tenant, evicted least recently used first.

An extent ends at a block boundary; a block that straddles two extents belongs to the later one, whose hash
names everything up to its end. Whoever holds an extent holds all before it, and a sequence releases its
deepest extent first: so in eviction order no extent comes after the one it continues.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence as Seq, Set as AbstractSet
from typing import cast

from headway.core.request import Request
from headway.core.sequence import Sequence


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
    """Finds cached prefixes. `salted=False` shares them between tenants (a timing side channel)."""

    def __init__(self, *, salted: bool = True) -> None:
        self._salted = salted
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
        for node in cast("Seq[PrefixNode]", nodes):
            if not node.holders:
                del self._unheld[node]
                self.evictable_blocks -= len(node.blocks)
                self.held_blocks += len(node.blocks)
            node.holders += 1
            blocks += node.blocks
        return blocks

    def release(self, nodes: Seq[object]) -> int:
        """Stop holding `nodes`; returns how many blocks they cover."""
        covered = 0
        for node in reversed(cast("Seq[PrefixNode]", nodes)):
            covered += len(node.blocks)
            node.holders -= 1
            if not node.holders:
                self._unheld[node] = None
                self.evictable_blocks += len(node.blocks)
                self.held_blocks -= len(node.blocks)
        return covered

    def evict(self) -> list[int]:
        """Drop the least recently held extent; returns its blocks."""
        node, _ = self._unheld.popitem(last=False)
        del self._nodes[node.tenant][node.hash]
        self.evictable_blocks -= len(node.blocks)
        return node.blocks

    def publish(self, sequence: Sequence, block_tokens: int, *, ended: bool) -> list[int]:
        """Index what `sequence` has computed of its prefix; returns blocks that became duplicates.

        An extent that somebody else published meanwhile is shared from here on and our copy is freed.
        `ended`: prompt and output together are indexed too, under the request's `next_extent`.
        """
        request = sequence.request
        prefix = request.prefix
        held = list(cast("Seq[PrefixNode]", sequence.nodes))
        duplicates: list[int] = []
        if len(held) > len(prefix):
            return duplicates
        tenant = request.tenant if self._salted else ""
        nodes = self._nodes.setdefault(tenant, {})
        end = sum(tokens for _, tokens in prefix[: len(held)])
        for extent_hash, tokens in prefix[len(held) :]:
            end += tokens
            where = (nodes, tenant, extent_hash)
            if end > sequence.computed_tokens or not self._publish_one(
                sequence, held, where, end // block_tokens, duplicates
            ):
                break
        else:
            if ended and request.next_extent is not None:
                where = (nodes, tenant, request.next_extent)
                last = sequence.computed_tokens // block_tokens
                self._publish_one(sequence, held, where, last, duplicates)
        sequence.nodes = tuple(held)
        return duplicates

    def _publish_one(
        self,
        sequence: Sequence,
        held: list[PrefixNode],
        where: tuple[dict[int, PrefixNode], str, int],
        end_blocks: int,
        duplicates: list[int],
    ) -> bool:
        nodes, tenant, extent_hash = where
        start = held[-1].end_blocks if held else 0
        node = nodes.get(extent_hash)
        if node is None:
            blocks = sequence.blocks[start:end_blocks]
            node = nodes[extent_hash] = PrefixNode(
                tenant, extent_hash, blocks, max(start, end_blocks)
            )
            self.held_blocks += len(blocks)
        elif node.end_blocks - len(node.blocks) == start and node.end_blocks <= len(
            sequence.blocks
        ):
            duplicates += sequence.blocks[start : node.end_blocks]
            sequence.blocks[start : node.end_blocks] = self.hold([node])
        else:
            return False
        held.append(node)
        return True
