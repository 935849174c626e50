"""The weights of a Gemma-3 text model, in the layout the model computes with.

Whoever loads them converts: projections that read the same input are stacked into one matrix, and every norm
weight is the factor itself (Hugging Face stores w and multiplies by 1 + w; GGUF stores 1 + w).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from headway.engine.architecture import Architecture

# Shapes: E hidden, F ffn, H query heads, K key/value heads, D head size, V vocabulary.


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One layer. All fp32 and contiguous."""

    before_attention: Tensor  # (E,)
    after_attention: Tensor  # (E,)
    before_ffn: Tensor  # (E,)
    after_ffn: Tensor  # (E,)
    qkv: Tensor  # ((H + 2K) D, E)
    qk_norm: Tensor  # (H + K, D), the query norm H times, the key norm K times
    out: Tensor  # (E, H D)
    gate_up: Tensor  # (2 F, E)
    down: Tensor  # (E, F)


@dataclass(frozen=True, slots=True)
class Weights:
    """The whole model; the embedding is also the head."""

    embedding: Tensor  # (V, E)
    final: Tensor  # (E,)
    layers: tuple[LayerWeights, ...]

    @property
    def bytes(self) -> int:
        """Memory they take."""
        tensors = [self.embedding, self.final]
        tensors += [getattr(layer, field.name) for layer in self.layers for field in fields(layer)]
        return sum(tensor.nbytes for tensor in tensors)


@dataclass(frozen=True, slots=True)
class LayerNames:
    """What a file format calls the tensors of a layer."""

    before_attention: str
    after_attention: str
    before_ffn: str
    after_ffn: str
    query: str
    key: str
    value: str
    query_norm: str
    key_norm: str
    out: str
    gate: str
    up: str
    down: str


Matrix = Callable[[str, tuple[int, ...]], Tensor]
"""(name, shape) -> the tensor in fp32; raises ModelFileError when it is missing or of another shape."""


def stack_layer(
    config: Architecture, names: LayerNames, matrix: Matrix, norm: Matrix
) -> LayerWeights:
    """Load one layer; `norm` returns norm factors, `matrix` everything else."""
    hidden, ffn, size = config.hidden, config.ffn, config.head_size
    heads, kv_heads = config.heads, config.kv_heads
    return LayerWeights(
        before_attention=norm(names.before_attention, (hidden,)),
        after_attention=norm(names.after_attention, (hidden,)),
        before_ffn=norm(names.before_ffn, (hidden,)),
        after_ffn=norm(names.after_ffn, (hidden,)),
        qkv=torch.cat(
            [
                matrix(names.query, (heads * size, hidden)),
                matrix(names.key, (kv_heads * size, hidden)),
                matrix(names.value, (kv_heads * size, hidden)),
            ]
        ),
        qk_norm=torch.cat(
            [
                norm(names.query_norm, (size,)).expand(heads, size),
                norm(names.key_norm, (size,)).expand(kv_heads, size),
            ]
        ),
        out=matrix(names.out, (hidden, heads * size)),
        gate_up=torch.cat([matrix(names.gate, (ffn, hidden)), matrix(names.up, (ffn, hidden))]),
        down=matrix(names.down, (hidden, ffn)),
    )
