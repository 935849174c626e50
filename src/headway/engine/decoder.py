"""Gemma-3 over a flat batch, one layer at a time, in fp32.

Source: Gemma Team, "Gemma 3 Technical Report", 2025; numerics follow transformers' Gemma3ForCausalLM.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 -- everybody calls it so

from headway.engine.architecture import Architecture
from headway.engine.attention import attend
from headway.engine.kv_pool import KvPool
from headway.engine.layout import Layout
from headway.engine.linear import Linear
from headway.engine.weights import LayerWeights, Weights

# Shapes: N tokens of the step, E hidden, H query heads, K key/value heads, G = H / K, D head size,
# S sequences of a group, T new tokens of each, L slots each sees, V vocabulary.

Rotation = tuple[Tensor, Tensor]
"""(cosine, signed sine), each (N, 1, D)."""


class Layer:
    """The weights of one layer, ready to compute with."""

    __slots__ = (
        "after_attention",
        "after_ffn",
        "before_attention",
        "before_ffn",
        "down",
        "gate_up",
        "out",
        "qk_norm",
        "qkv",
    )

    def __init__(self, weights: LayerWeights) -> None:
        self.before_attention, self.after_attention = (
            weights.before_attention,
            weights.after_attention,
        )
        self.before_ffn, self.after_ffn = weights.before_ffn, weights.after_ffn
        self.qk_norm = weights.qk_norm
        self.qkv, self.out = Linear(weights.qkv), Linear(weights.out)
        self.gate_up, self.down = Linear(weights.gate_up), Linear(weights.down)


class Decoder:
    """A Gemma-3 text model without state: KV is in the pool, hidden states are the caller's.

    Copies the matrices into another layout: drop `weights` afterwards. `bytes` is what it holds.
    """

    def __init__(self, config: Architecture, weights: Weights) -> None:
        self.config = config
        self._embedding, self._final = weights.embedding, weights.final
        self._head = Linear(weights.embedding)
        self._layers = [Layer(layer) for layer in weights.layers]
        self.bytes = weights.bytes + self._head.bytes
        self._norm_shape, self._head_shape = (config.hidden,), (config.head_size,)
        self._embedding_scale = torch.tensor(
            config.hidden**0.5
        )  # rounded to fp32, as the reference does
        exponents = torch.arange(0, config.head_size, 2, dtype=torch.float) / config.head_size
        self._local = 1.0 / config.local_theta**exponents
        self._wide = 1.0 / config.global_theta**exponents / config.global_factor
        self._score_scale = config.query_scalar**-0.5

    def embed(self, tokens: Tensor) -> Tensor:
        """Return hidden states (N, E) of token ids (N,)."""
        return F.embedding(tokens, self._embedding) * self._embedding_scale

    def rotations(self, positions: Tensor) -> tuple[Rotation, Rotation]:
        """Return the rotations of global and of sliding layers; the same for all layers of a step."""
        return _rotation(positions, self._wide), _rotation(positions, self._local)

    def layer(
        self,
        index: int,
        hidden: Tensor,
        layout: Layout,
        rotations: tuple[Rotation, Rotation],
        pool: KvPool,
    ) -> Tensor:
        """Return hidden states (N, E) after layer `index`; writes the new KV into `pool`."""
        weights, epsilon = self._layers[index], self.config.epsilon
        normed = F.rms_norm(hidden, self._norm_shape, weights.before_attention, epsilon)
        attended = self._attend(index, normed, layout, rotations, pool)
        hidden = hidden + F.rms_norm(attended, self._norm_shape, weights.after_attention, epsilon)
        normed = F.rms_norm(hidden, self._norm_shape, weights.before_ffn, epsilon)
        gate, up = weights.gate_up(normed).chunk(2, -1)
        fed = weights.down(F.gelu(gate, approximate="tanh") * up)
        return hidden + F.rms_norm(fed, self._norm_shape, weights.after_ffn, epsilon)

    def head(self, rows: Tensor) -> Tensor:
        """Return logits (rows, V) of hidden states (rows, E) after the last layer."""
        normed = F.rms_norm(rows, self._norm_shape, self._final, self.config.epsilon)
        return self._head(normed)

    def _attend(
        self,
        index: int,
        normed: Tensor,
        layout: Layout,
        rotations: tuple[Rotation, Rotation],
        pool: KvPool,
    ) -> Tensor:
        config, weights = self.config, self._layers[index]
        heads, kv_heads, size = config.heads, config.kv_heads, config.head_size
        sliding = config.sliding[index]
        fused = weights.qkv(normed)
        queries_keys, value = fused.tensor_split([(heads + kv_heads) * size], -1)
        turned = self._turn(
            queries_keys.view(-1, heads + kv_heads, size), weights, rotations[sliding]
        )
        query, key = turned[:, :heads], turned[:, heads:]  # (N, H, D), (N, K, D)
        keys, values = pool.keys[index], pool.values[index]
        keys.index_copy_(0, layout.slots, key)
        values.index_copy_(0, layout.slots, value.reshape(-1, kv_heads, size))
        return weights.out(
            attend(query, keys, values, layout.groups, scale=self._score_scale, sliding=sliding)
        )

    def _turn(self, heads: Tensor, weights: Layer, rotation: Rotation) -> Tensor:
        """Norm each head and rotate it by its position."""
        cosine, sine = rotation
        normed = F.rms_norm(heads, self._head_shape, None, self.config.epsilon) * weights.qk_norm
        return normed * cosine + normed.roll(self.config.head_size // 2, -1) * sine


def _rotation(positions: Tensor, frequencies: Tensor) -> Rotation:
    angles = positions[:, None].float() * frequencies  # (N, D / 2)
    cosine, sine = angles.cos(), angles.sin()
    return torch.cat((cosine, cosine), -1)[:, None], torch.cat((-sine, sine), -1)[:, None]
