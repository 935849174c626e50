"""Attention of a flat batch over paged KV: group by group, tile by tile, K and V never expanded.

Query heads of one key/value head become its queries, so that K and V are read once. Plain products beat torch's
fused attention on CPUs: in bf16 threefold over a prompt, and by half over a batch of decodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from headway.engine.layout import Group, Hidden

# Shapes: N tokens of the step, H query heads, K key/value heads, G = H / K, D head size, P B slots of the pool,
# S sequences of a group, T new tokens of each, L slots each sees.


def attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    groups: Sequence[Group],
    *,
    scale: float,
    sliding: bool,
    softcap: float | None = None,
) -> Tensor:
    """Return (N, H D) of queries (N, H, D) over one layer's keys and values (P B, K, D).

    `softcap` c bounds scaled scores: s becomes c tanh(s / c), before keys are hidden (Gemma-2).
    """
    query = query * scale
    parts = [_attend_group(query, keys, values, group, sliding, softcap) for group in groups]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _attend_group(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    group: Group,
    sliding: bool,
    softcap: float | None,
) -> Tensor:
    """Return (S T, H D) of scaled queries."""
    reach = group.local if sliding else group.wide
    heads, kv_heads, size = query.shape[1], keys.shape[1], keys.shape[2]
    sequences, tokens, ratio = group.sequences, group.tokens, heads // kv_heads
    rows = query[group.first : group.first + sequences * tokens]
    rows = rows.view(sequences, tokens, kv_heads, ratio, size).transpose(1, 2)
    rows = rows.reshape(sequences * kv_heads, tokens * ratio, size)
    key, value = (_by_head(kv, reach.slots, sequences) for kv in (keys, values))  # (S K, L, D)
    parts = []
    for tile in reach.tiles:
        few = rows[:, tile.row * ratio : (tile.row + tile.rows) * ratio]
        seen = slice(tile.key, tile.key + tile.keys)
        scores = torch.bmm(few, key[:, seen].transpose(1, 2))  # (S K, rows G, keys)
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        _hide(scores.view(sequences, kv_heads, tile.rows, ratio, tile.keys), tile.hidden)
        parts.append(torch.bmm(torch.softmax(scores, -1), value[:, seen]))
    out = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
    out = out.view(sequences, kv_heads, tokens, ratio, size).transpose(1, 2)
    return out.reshape(sequences * tokens, heads * size)


def _by_head(pool: Tensor, slots: Tensor, sequences: int) -> Tensor:
    """Gather (S K, L, D) from (P B, K, D)."""
    kv_heads, size = pool.shape[1:]
    gathered = pool.index_select(0, slots)
    if kv_heads == 1:
        return gathered.view(sequences, -1, size)
    heads = gathered.view(sequences, -1, kv_heads, size).transpose(1, 2)
    return heads.reshape(sequences * kv_heads, -1, size)


def _hide(scores: Tensor, hidden: Sequence[Hidden]) -> None:
    """Make scores (S, K, rows, G, keys) of hidden keys weigh nothing, in place."""
    for first, mask in hidden:
        part = scores[..., first : first + mask.shape[-1]]
        part.masked_fill_(mask[:, None, :, None], float("-inf"))
