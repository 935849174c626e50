"""The works of a step that are more than one token, and the sums of their attention."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from headway.timing.attention_pairs import chunk_pairs, chunk_reads


class Chunk(NamedTuple):
    """Consecutive tokens of one sequence in one step."""

    tokens: int  # that advance the context
    padded: int  # that are computed
    context: int  # cached tokens before them
    absorbed: bool  # attends as a decode does: one token and its drafts


class AttentionSums(NamedTuple):
    """(query, key) pairs by kind, and tokens whose KV is read or written, in one or several layers."""

    decode: int
    prefill: int
    reads: int

    def times(self, layers: int) -> AttentionSums:
        """The same in `layers` layers."""
        return AttentionSums(self.decode * layers, self.prefill * layers, self.reads * layers)

    def plus(self, other: AttentionSums) -> AttentionSums:
        """Both together."""
        return AttentionSums(
            self.decode + other.decode, self.prefill + other.prefill, self.reads + other.reads
        )


def sum_chunks(
    chunks: Iterable[Chunk], window: int | None = None
) -> tuple[AttentionSums, AttentionSums, int]:
    """Return one layer's sums, what a repeat adds to them (without window), and tokens computed."""
    decode = prefill = reads = grow_decode = grow_prefill = grow_reads = computed = 0
    for tokens, padded, context, absorbed in chunks:
        pairs = chunk_pairs(padded, context, window)
        if absorbed:
            decode += pairs
            grow_decode += padded * tokens
        else:
            prefill += pairs
            grow_prefill += padded * tokens
        reads += chunk_reads(padded, context, window) + padded
        grow_reads += tokens
        computed += padded
    growth = AttentionSums(grow_decode, grow_prefill, grow_reads)
    return AttentionSums(decode, prefill, reads), growth, computed
