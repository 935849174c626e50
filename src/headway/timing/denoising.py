"""What a step computes when some of its works are steps of a diffusion model.

A Refresh computes prompt and answer, and logits for the whole answer; a Reuse computes one span over the KV of all
the rest, and logits for that span. Every token sees every other one. Windows of windowed layers are left out: no
diffusion model in use has them.
"""

from __future__ import annotations

from collections.abc import Iterable

from headway.core import Work
from headway.timing.chunk import AttentionSums, Chunk, sum_chunks


def denoising_sums(works: Iterable[Work]) -> tuple[int, int, AttentionSums]:
    """Return tokens, rows of logits, and one layer's attention; other works are counted as ever."""
    tokens = rows = pairs = reads = 0
    chunks: list[Chunk] = []
    for work in works:
        sequence = work.sequence
        context = sequence.computed_tokens + sequence.pending_tokens
        padded = max(work.tokens, work.pad_to or 0)
        if sequence.denoises:
            tokens += padded
            rows += min(work.tokens, sequence.max_tokens)
            pairs += padded * sequence.total_tokens
            reads += sequence.total_tokens + padded
            continue
        certain = work.tokens - work.draft_tokens
        if context + certain >= sequence.total_tokens + sequence.pending_output:
            rows += work.draft_tokens + 1
        chunks.append(Chunk(work.tokens, padded, context, absorbed=certain == 1))
    others, _, computed = sum_chunks(chunks)
    return tokens + computed, rows, others.plus(AttentionSums(0, pairs, reads))
