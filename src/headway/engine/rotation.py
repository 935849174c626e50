"""Rotary position embedding: how fast each pair of a head's numbers turns, and by how much at a position."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from headway.engine.architecture import Rope

# Shapes: N tokens of the step, D head size.

Rotation = tuple[Tensor, Tensor]
"""(cosine, signed sine), each (N, 1, D) in fp32."""


def frequencies(rope: Rope, head_size: int) -> Tensor:
    """Return radians per position (D / 2,), in fp32 as the reference works them out."""
    exponents = torch.arange(0, head_size, 2, dtype=torch.float) / head_size
    plain = 1.0 / rope.theta**exponents
    if rope.divisors:
        return plain / torch.tensor(rope.divisors)
    if rope.llama3 is None:
        return plain / rope.factor
    wavelengths = 2 * math.pi / plain
    turns = rope.llama3.original_tokens / wavelengths  # of each pair, over the original context
    low, high = rope.llama3.low, rope.llama3.high
    share = ((turns - low) / (high - low)).clamp(0, 1)  # of the unstretched frequency
    return (1 - share) * plain / rope.factor + share * plain


def rotation(positions: Tensor, speeds: Tensor) -> Rotation:
    """Return the rotation at positions (N,) for frequencies (D / 2,)."""
    angles = positions[:, None].float() * speeds  # (N, D / 2)
    cosine, sine = angles.cos(), angles.sin()
    return torch.cat((cosine, cosine), -1)[:, None], torch.cat((-sine, sine), -1)[:, None]


def rotate(heads: Tensor, by: Rotation, spare: Tensor) -> None:
    """Turn heads (N, heads, D) in place; halves of a head are the two coordinates of its pairs.

    `spare`, of the same shape, is overwritten.
    """
    (cosine, sine), half = by, heads.shape[-1] // 2
    torch.mul(heads[..., half:], sine[..., :half], out=spare[..., :half])
    torch.mul(heads[..., :half], sine[..., half:], out=spare[..., half:])
    heads.mul_(cosine).add_(spare)
