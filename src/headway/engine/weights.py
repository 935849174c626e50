"""The weights of a decoder-only model, in the layout it computes with.

Whoever loads them converts: projections that read the same input are stacked into one matrix, and every norm
weight is the factor itself (for Gemma, Hugging Face stores w and multiplies by 1 + w; GGUF stores 1 + w).
Norms stay in fp32, everything else is in the type the model computes with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from headway.engine.architecture import Architecture
from headway.engine.embedding import Embedding

# Shapes: E hidden, F ffn, H query heads, K key/value heads, D head size, V vocabulary.


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One layer; None where the architecture has no such part."""

    before_attention: Tensor  # (E,)
    before_ffn: Tensor  # (E,)
    qkv: Tensor  # ((H + 2K) D, E)
    out: Tensor  # (E, H D)
    gate_up: Tensor  # (2 F, E)
    down: Tensor  # (E, F)
    after_attention: Tensor | None = None  # (E,)
    after_ffn: Tensor | None = None  # (E,)
    qk_norm: Tensor | None = None  # (H + K, D), the query norm H times, the key norm K times
    qkv_bias: Tensor | None = None  # ((H + 2K) D,)
    out_bias: Tensor | None = None  # (E,)

    @property
    def bytes(self) -> int:
        """Memory they take."""
        tensors = (getattr(self, field.name) for field in fields(self))
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)


@dataclass(frozen=True, slots=True)
class Weights:
    """The whole model. `layers` may be read once only, and may load each layer as it is asked for."""

    embedding: Tensor | Embedding  # (V, E)
    final: Tensor  # (E,)
    layers: Iterable[LayerWeights]
    head: Tensor | None = None  # (V, E); None: the embedding is also the head


class LayerNames(NamedTuple):
    """What a file format calls the modules of a layer; each has `.weight`, some `.bias`."""

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


Load = Callable[[str, tuple[int, ...]], Tensor]
"""(name, shape) -> the tensor; raises ModelFileError when it is missing or of another shape."""


class Source(NamedTuple):
    """How a file format hands out tensors."""

    matrix: Load  # in the type the model computes with
    norm: Load  # norm factors, in fp32
    query_key: Callable[[Tensor, int], Tensor]  # (rows, heads) -> rows in this model's order


def stack_layer(config: Architecture, names: LayerNames, source: Source) -> LayerWeights:
    """Load one layer."""
    hidden, ffn, size = config.hidden, config.ffn, config.head_size
    heads, kv_heads = config.heads, config.kv_heads
    matrix, norm = source.matrix, source.norm
    qk_norm = after_attention = after_ffn = qkv_bias = out_bias = None

    def qkv(part: str, *inputs: int) -> Tensor:
        query = matrix(f"{names.query}.{part}", (heads * size, *inputs))
        key = matrix(f"{names.key}.{part}", (kv_heads * size, *inputs))
        value = matrix(f"{names.value}.{part}", (kv_heads * size, *inputs))
        turned = source.query_key(query, heads), source.query_key(key, kv_heads)
        return torch.cat([*turned, value])

    if config.post_norms:
        after_attention = norm(f"{names.after_attention}.weight", (hidden,))
        after_ffn = norm(f"{names.after_ffn}.weight", (hidden,))
    if config.qk_norm:
        query_norm = norm(f"{names.query_norm}.weight", (size,)).expand(heads, size)
        key_norm = norm(f"{names.key_norm}.weight", (size,)).expand(kv_heads, size)
        qk_norm = torch.cat([query_norm, key_norm])
    if config.qkv_bias:
        qkv_bias = qkv("bias")
    if config.out_bias:
        out_bias = matrix(f"{names.out}.bias", (hidden,))
    gate = matrix(f"{names.gate}.weight", (ffn, hidden))
    return LayerWeights(
        before_attention=norm(f"{names.before_attention}.weight", (hidden,)),
        before_ffn=norm(f"{names.before_ffn}.weight", (hidden,)),
        qkv=qkv("weight", hidden),
        out=matrix(f"{names.out}.weight", (hidden, heads * size)),
        gate_up=torch.cat([gate, matrix(f"{names.up}.weight", (ffn, hidden))]),
        down=matrix(f"{names.down}.weight", (hidden, ffn)),
        after_attention=after_attention,
        after_ffn=after_ffn,
        qk_norm=qk_norm,
        qkv_bias=qkv_bias,
        out_bias=out_bias,
    )
