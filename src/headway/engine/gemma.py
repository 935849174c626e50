"""Gemma-3 over a flat batch, one layer at a time, in fp32.

Source: Gemma Team, "Gemma 3 Technical Report", 2025; numerics follow transformers' Gemma3ForCausalLM.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 -- everybody calls it so

from headway.engine.gemma_config import GemmaConfig
from headway.engine.kv_pool import KvPool
from headway.engine.layout import FEW_TOKENS, Group, Layout, Reach
from headway.engine.linear import Linear
from headway.engine.weights import GemmaWeights, LayerWeights

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


class Gemma:
    """A Gemma-3 text model without state: KV is in the pool, hidden states are the caller's.

    Copies the matrices into another layout: drop `weights` afterwards. `bytes` is what it holds.
    """

    def __init__(self, config: GemmaConfig, weights: GemmaWeights) -> None:
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
        parts = [
            self._attend_group(query, keys, values, group, group.local if sliding else group.wide)
            for group in layout.groups
        ]
        attended = parts[0] if len(parts) == 1 else torch.cat(parts)
        return weights.out(attended)

    def _turn(self, heads: Tensor, weights: Layer, rotation: Rotation) -> Tensor:
        """Norm each head and rotate it by its position."""
        cosine, sine = rotation
        normed = F.rms_norm(heads, self._head_shape, None, self.config.epsilon) * weights.qk_norm
        return normed * cosine + normed.roll(self.config.head_size // 2, -1) * sine

    def _attend_group(
        self, query: Tensor, keys: Tensor, values: Tensor, group: Group, reach: Reach
    ) -> Tensor:
        """Return (S T, H D).

        Few new tokens: query heads of one key/value head become its queries, so that K and V are read once
        and never expanded. Many: heads stay heads, which keeps the mask small.
        """
        config, (sequences, tokens) = self.config, (group.sequences, group.tokens)
        kv_heads, size, ratio = config.kv_heads, config.head_size, config.heads // config.kv_heads
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
            out = F.scaled_dot_product_attention(rows, key, value, mask, scale=self._score_scale)
            out = out.view(sequences, kv_heads, tokens, ratio, size).transpose(1, 2)
        else:
            rows = rows.reshape(sequences, tokens, -1, size).transpose(1, 2)  # (S, H, T, D)
            key, value = _for_each_query_head(key, ratio), _for_each_query_head(value, ratio)
            out = F.scaled_dot_product_attention(rows, key, value, mask, scale=self._score_scale)
            out = out.transpose(1, 2)
        return out.reshape(sequences * tokens, config.heads * size)


def _for_each_query_head(heads: Tensor, ratio: int) -> Tensor:
    """Repeat (S, K, L, D) to (S, K G, L, D); a view when K is 1."""
    sequences, kv_heads, slots, size = heads.shape
    wide = heads[:, :, None].expand(sequences, kv_heads, ratio, slots, size)
    return wide.reshape(sequences, kv_heads * ratio, slots, size)


def _rotation(positions: Tensor, frequencies: Tensor) -> Rotation:
    angles = positions[:, None].float() * frequencies  # (N, D / 2)
    cosine, sine = angles.cos(), angles.sin()
    return torch.cat((cosine, cosine), -1)[:, None], torch.cat((-sine, sine), -1)[:, None]
