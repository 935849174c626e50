"""How many (query, key) pairs causal attention visits, and how many cached tokens it reads, exactly.

A chunk of `tokens` follows `context` cached tokens; its i-th token (from 1) sees `context + i` keys, at most
`window` of them.
"""

from __future__ import annotations

from collections.abc import Iterable


def chunk_pairs(tokens: int, context: int, window: int | None = None) -> int:
    """Pairs of one chunk."""
    if window is None or context + tokens <= window:
        return tokens * context + tokens * (tokens + 1) // 2
    inside = max(0, window - context)  # tokens that still see everything
    return inside * context + inside * (inside + 1) // 2 + (tokens - inside) * window


def chunk_reads(tokens: int, context: int, window: int | None = None) -> int:
    """Tokens whose KV one chunk reads, its own included."""
    reach = context + tokens
    return reach if window is None else min(reach, window - 1 + tokens)


def windowed_decode_sums(contexts: Iterable[int], window: int, repeats: int) -> list[int]:
    """Pairs of one token for every context, for each of `repeats` steps in which all contexts grow by 1."""
    total, gaps = 0, []
    for context in contexts:
        seen = context + 1
        if seen < window:
            gaps.append(window - seen)
            total += seen
        else:
            total += window
    if repeats == 1:
        return [total]
    gaps.sort()
    sums, full = [], 0
    for repeat in range(repeats):
        sums.append(total)
        while full < len(gaps) and gaps[full] <= repeat:
            full += 1
        total += len(gaps) - full
    return sums
