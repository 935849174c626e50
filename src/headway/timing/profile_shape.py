"""What a step looks like to a profile: a handful of whole numbers, taken from a step or from a line of a log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from headway.core import Step

WorkNumbers = tuple[int, int, int]
"""(tokens, context before them, rows sampled after them)."""


class Shape(NamedTuple):
    """Sums over the works of a step. A work of one token is a decode, any other a chunk."""

    decodes: int
    decode_context: int  # tokens that the decodes attend to, themselves included
    chunks: int
    chunk_tokens: int  # padded
    chunk_pairs: int  # pairs of a chunk's token and a token it attends to
    rows: int  # rows of the output head

    @property
    def kind(self) -> str:
        """One of decode, prefill and mixed."""
        if not self.chunks:
            return "decode"
        return "mixed" if self.decodes else "prefill"


class Growth(NamedTuple):
    """What one repeat adds to the sums that grow with contexts."""

    decode_context: int
    chunk_pairs: int


def shape_of(works: Iterable[WorkNumbers]) -> Shape:
    """Sum up works."""
    decodes = context = chunks = chunk_tokens = pairs = rows = 0
    for tokens, before, sampled in works:
        rows += sampled
        if tokens == 1:
            decodes += 1
            context += before + 1
        else:
            chunks += 1
            chunk_tokens += tokens
            pairs += tokens * before + tokens * (tokens + 1) // 2
    return Shape(decodes, context, chunks, chunk_tokens, pairs, rows)


def shape_of_step(step: Step) -> tuple[Shape, Growth]:
    """Sum up a step that covers all layers, and say how it grows when it is repeated."""
    known = step.decodes
    decodes = rows = len(known)
    context = sum([s.computed_tokens + s.pending_tokens for s in known]) + decodes
    chunks = chunk_tokens = pairs = growth = 0
    for sequence, tokens, _, drafts, _, pad_to in step.work[decodes:] if known else step.work:
        before = sequence.computed_tokens + sequence.pending_tokens
        if before + tokens - drafts >= sequence.total_tokens + sequence.pending_output:
            rows += drafts + 1
        padded = tokens if pad_to is None or pad_to < tokens else pad_to
        if padded == 1:
            decodes += 1
            context += before + 1
        else:
            chunks += 1
            chunk_tokens += padded
            pairs += tokens * before + tokens * (tokens + 1) // 2
            growth += tokens * tokens
    return Shape(decodes, context, chunks, chunk_tokens, pairs, rows), Growth(decodes, growth)
