"""Attention over pages and tiles, against the textbook formula over each sequence alone."""

from __future__ import annotations

import math
import random

import pytest
import torch

from headway.engine.attention import attend
from headway.engine.layout import TILE_TOKENS, Span, lay_out

BLOCK, SIZE = 16, 8


def textbook(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    window: float,
    scale: float,
    cap: float | None,
) -> torch.Tensor:
    """Return (T, H D) of the last T of L positions: queries (T, H, D), keys and values (L, K, D)."""
    tokens, heads, _ = query.shape
    keys, values = (kv.repeat_interleave(heads // kv.shape[1], 1) for kv in (keys, values))
    scores = torch.einsum("thd,lhd->htl", query, keys) * scale
    if cap:
        scores = cap * torch.tanh(scores / cap)
    key_at = torch.arange(keys.shape[0])
    query_at = key_at[-tokens:, None]
    hidden = (key_at > query_at) | (key_at <= query_at - window)
    weights = scores.masked_fill(hidden, -math.inf).softmax(-1)
    return torch.einsum("htl,lhd->thd", weights, values).reshape(tokens, -1)


@pytest.mark.parametrize("cap", [None, 3.0])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("sliding", [False, True])
def test_every_sequence_attends_as_if_alone(
    kv_heads: int, cap: float | None, *, sliding: bool
) -> None:
    random_numbers, draw = torch.Generator().manual_seed(7), random.Random(7)
    window, heads = 150, 4
    lengths = [(30, 1), (400, 1), (37, 1), (20, 3), (0, TILE_TOKENS + 1), (77, 3 * TILE_TOKENS)]
    free = list(range(100))
    draw.shuffle(free)
    spans = [
        Span(start, tokens, [free.pop() for _ in range(-(-(start + tokens) // BLOCK))])
        for start, tokens in lengths
    ]
    layout = lay_out(spans, BLOCK, window)
    keys, values = torch.randn((2, 100 * BLOCK, kv_heads, SIZE), generator=random_numbers)
    query = torch.randn((len(layout.positions), heads, SIZE), generator=random_numbers)
    found = attend(query, keys, values, layout.groups, scale=0.7, sliding=sliding, softcap=cap)
    for span, row in zip(spans, layout.rows, strict=True):
        slots = torch.tensor(
            [
                span.blocks[at // BLOCK] * BLOCK + at % BLOCK
                for at in range(span.start + span.tokens)
            ]
        )
        expected = textbook(
            query[row : row + span.tokens],
            keys[slots],
            values[slots],
            window if sliding else math.inf,
            0.7,
            cap,
        )
        torch.testing.assert_close(found[row : row + span.tokens], expected, atol=2e-5, rtol=1e-4)
