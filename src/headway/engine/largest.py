"""The largest scores of each row, found block by block.

The maximum of every block is cheap to have: vectorised, and without indices. An element among the `count` largest
lies in one of the `count` blocks with the largest maxima, so only those are looked into.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 128  # divides the vocabularies of the families served here; others take the plain way

# Shapes: R rows, V vocabulary, C the largest of each row.


class Largest(NamedTuple):
    """Values (R, C), best first, and their token ids (R, C)."""

    values: Tensor
    ids: Tensor


def peak(scores: Tensor) -> Largest:
    """Return the best of each row of (R, V) as (R, 1); the lowest id where several are best. NaN is best."""
    size = scores.shape[-1]
    if size % BLOCK:
        return Largest(*scores.max(-1, keepdim=True))
    best = scores.view(len(scores), -1, BLOCK).amax(-1).max(-1, keepdim=True)
    within = scores.gather(-1, _inside(best.indices)).max(-1, keepdim=True)
    return Largest(best.values, best.indices * BLOCK + within.indices)


def largest(scores: Tensor, count: int) -> Largest:
    """Return the `count` (<= V) largest of each row of (R, V); which of equals come first is not said."""
    size = scores.shape[-1]
    if count == size:
        return Largest(*scores.sort(-1, descending=True))
    if size % BLOCK or 8 * count * BLOCK > size:  # beyond that, the plain way is as fast
        return Largest(*scores.topk(count))
    blocks = scores.view(len(scores), -1, BLOCK).amax(-1).topk(count).indices
    ids = _inside(blocks)
    best = scores.gather(-1, ids).topk(count)
    return Largest(best.values, ids.gather(-1, best.indices))


def _inside(blocks: Tensor) -> Tensor:
    """Return the ids in blocks (R, B) of a row as (R, B · BLOCK)."""
    return (blocks[..., None] * BLOCK + torch.arange(BLOCK, device=blocks.device)).flatten(-2)
