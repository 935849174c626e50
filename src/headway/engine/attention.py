"""Attention of a flat batch over paged KV: group by group, K and V never expanded for decodes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 -- everybody calls it so

from headway.engine.layout import FEW_TOKENS, Group

# Shapes: N tokens of the step, H query heads, K key/value heads, D head size, P B slots of the pool,
# S sequences of a group, T new tokens of each, L slots each sees.


def attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    groups: Sequence[Group],
    *,
    scale: float,
    sliding: bool,
) -> Tensor:
    """Return (N, H D) of queries (N, H, D) over one layer's keys and values (P B, K, D)."""
    parts = [_attend_group(query, keys, values, group, scale, sliding) for group in groups]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _attend_group(
    query: Tensor, keys: Tensor, values: Tensor, group: Group, scale: float, sliding: bool
) -> Tensor:
    """Return (S T, H D).

    Few new tokens: query heads of one key/value head become its queries, so that K and V are read once
    and never expanded. Many: heads stay heads, which keeps the mask small.
    """
    reach = group.local if sliding else group.wide
    heads, kv_heads, size = query.shape[1], keys.shape[1], keys.shape[2]
    sequences, tokens, ratio = group.sequences, group.tokens, heads // kv_heads
    rows = query[group.first : group.first + sequences * tokens]
    shape = (sequences, -1, kv_heads, size)
    key = keys.index_select(0, reach.slots).view(shape).transpose(1, 2)  # (S, K, L, D)
    value = values.index_select(0, reach.slots).view(shape).transpose(1, 2)
    mask = reach.mask
    rows = rows.reshape(sequences, tokens, kv_heads, ratio, size)
    if tokens <= FEW_TOKENS:
        rows = rows.transpose(1, 2).reshape(sequences, kv_heads, tokens * ratio, size)
        if mask is not None and tokens > 1:
            mask = mask.repeat_interleave(ratio, 2)
        out = F.scaled_dot_product_attention(rows, key, value, mask, scale=scale)
        out = out.view(sequences, kv_heads, tokens, ratio, size).transpose(1, 2)
    else:
        rows = rows.reshape(sequences, tokens, -1, size).transpose(1, 2)  # (S, H, T, D)
        key, value = _for_each_query_head(key, ratio), _for_each_query_head(value, ratio)
        out = F.scaled_dot_product_attention(rows, key, value, mask, scale=scale).transpose(1, 2)
    return out.reshape(sequences * tokens, heads * size)


def _for_each_query_head(heads: Tensor, ratio: int) -> Tensor:
    """Repeat (S, K, L, D) to (S, K G, L, D); a view when K is 1."""
    sequences, kv_heads, slots, size = heads.shape
    wide = heads[:, :, None].expand(sequences, kv_heads, ratio, slots, size)
    return wide.reshape(sequences, kv_heads * ratio, slots, size)
