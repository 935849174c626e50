"""A decoder-only model over a flat batch, one layer at a time.

Computes what an `Architecture` can describe: Llama, Mistral, Qwen2, Qwen3, Gemma-2, Gemma-3. Numerics follow
transformers' classes of these names: norms and rotations in fp32, residuals and products in the model's type.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 -- everybody calls it so

from headway.engine.architecture import Activation, Architecture
from headway.engine.attention import attend
from headway.engine.embedding import as_embedding
from headway.engine.kv_pool import KvPool
from headway.engine.layout import Layout
from headway.engine.linear import FeedForward, Linear
from headway.engine.rotation import Rotation, frequencies, rotate, rotation
from headway.engine.weights import LayerWeights, Weights

# Shapes: N tokens of the step, E hidden, H query heads, K key/value heads, D head size, V vocabulary.

TILE_ROWS = 256  # rows that go through a layer together: what is made of them stays in the cache


class Layer:
    """The weights of one layer, ready to compute with."""

    __slots__ = (
        "after_attention",
        "after_ffn",
        "before_attention",
        "before_ffn",
        "bytes",
        "feed_forward",
        "out",
        "out_bias",
        "qk_norm",
        "qkv",
        "qkv_bias",
    )

    def __init__(self, weights: LayerWeights, activation: Activation) -> None:
        self.before_attention, self.before_ffn = weights.before_attention, weights.before_ffn
        self.after_attention, self.after_ffn = weights.after_attention, weights.after_ffn
        self.qk_norm = weights.qk_norm
        self.qkv, self.qkv_bias = Linear(weights.qkv), weights.qkv_bias
        self.out, self.out_bias = Linear(weights.out), weights.out_bias
        self.feed_forward = FeedForward(weights.gate_up, weights.down, activation)
        self.bytes = weights.bytes


class Decoder:
    """A text model without state: KV is in the pool, hidden states are the caller's.

    Copies the matrices into another layout, layer by layer as `weights` hands them out; drop `weights`
    afterwards. Computes in the type of the embedding. `bytes` is what it holds. `on_layer` hears of every
    layer that is ready: (layers so far, layers in all).
    """

    def __init__(
        self,
        config: Architecture,
        weights: Weights,
        on_layer: Callable[[int, int], None] | None = None,
    ) -> None:
        self._embedding, self._final = as_embedding(weights.embedding), weights.final
        self.config, self.dtype = config, self._embedding.dtype
        self._head = Linear(self._embedding.table() if weights.head is None else weights.head)
        self._layers: list[Layer] = []
        for layer in weights.layers:
            self._layers.append(Layer(layer, config.activation))
            if on_layer:
                on_layer(len(self._layers), config.layers)
        self.bytes = self._embedding.bytes + self._final.nbytes + self._head.bytes
        self.bytes += sum(layer.bytes for layer in self._layers)
        self._norm_shape, self._head_shape = (config.hidden,), (config.head_size,)
        self._embedding_scale = (
            # rounded to the model's type, as the reference does
            torch.tensor(config.embedding_scale, dtype=self.dtype)
            if config.embedding_scale
            else None
        )
        self._wide = frequencies(config.rope, config.head_size)
        self._local = (
            self._wide
            if config.sliding_rope == config.rope
            else frequencies(config.sliding_rope, config.head_size)
        )
        self._score_scale = config.query_scalar**-0.5

    def embed(self, tokens: Tensor) -> Tensor:
        """Return hidden states (N, E) of token ids (N,)."""
        rows = self._embedding.rows(tokens)
        return rows if self._embedding_scale is None else rows * self._embedding_scale

    def rotations(self, positions: Tensor) -> tuple[Rotation, Rotation]:
        """Return the rotations of global and of sliding layers; the same for all layers of a step."""
        wide = rotation(positions, self._wide)
        return wide, wide if self._local is self._wide else rotation(positions, self._local)

    def layer(
        self,
        index: int,
        hidden: Tensor,
        layout: Layout,
        rotations: tuple[Rotation, Rotation],
        pool: KvPool,
    ) -> Tensor:
        """Return hidden states (N, E) after layer `index`; writes the new KV into `pool`."""
        weights = self._layers[index]
        cosine, sine = rotations[self.config.sliding[index]]
        inputs = [
            self._inputs(weights, rows, turn)
            for rows, *turn in zip(
                *(torch.split(t, TILE_ROWS) for t in (hidden, cosine, sine)), strict=True
            )
        ]
        query, key, value = (_joined(parts) for parts in zip(*inputs, strict=True))
        attended = self._attend(index, query, key, value, layout, pool)
        tiles = zip(torch.split(hidden, TILE_ROWS), torch.split(attended, TILE_ROWS), strict=True)
        return _joined([self._outputs(weights, rows, seen) for rows, seen in tiles])

    def head(self, rows: Tensor) -> Tensor:
        """Return logits (rows, V) of hidden states (rows, E) after the last layer.

        In the model's type: they are megabytes a row, and a copy in fp32 costs more than it tells.
        """
        logits = self._head(self._norm(rows, self._final))
        cap = self.config.logit_softcap
        return logits if cap is None else torch.tanh(logits.float() / cap) * cap

    def _inputs(
        self, weights: Layer, hidden: Tensor, turn: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries (N, H, D), keys and values (N, K, D) of some rows; `turn` is their rotation."""
        config = self.config
        heads, kv_heads, size = config.heads, config.kv_heads, config.head_size
        fused = weights.qkv(self._norm(hidden, weights.before_attention))
        if weights.qkv_bias is not None:
            fused = fused + weights.qkv_bias
        queries_keys, value = fused.tensor_split([(heads + kv_heads) * size], -1)
        turning = queries_keys.view(-1, heads + kv_heads, size)
        if weights.qk_norm is not None:
            turning = F.rms_norm(turning.float(), self._head_shape, None, config.epsilon)
            turning = turning * weights.qk_norm
        cosine, sine = turn
        turned = rotate(turning, (cosine, sine)).to(self.dtype)
        return turned[:, :heads], turned[:, heads:], value.view(-1, kv_heads, size)

    def _attend(
        self,
        index: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        layout: Layout,
        pool: KvPool,
    ) -> Tensor:
        """Return (N, H D); writes keys and values into `pool` first."""
        keys, values = pool.keys[index], pool.values[index]
        keys.index_copy_(0, layout.slots, key.to(keys.dtype))
        values.index_copy_(0, layout.slots, value.to(values.dtype))
        attended = attend(
            query.to(keys.dtype),
            keys,
            values,
            layout.groups,
            scale=self._score_scale,
            sliding=self.config.sliding[index],
            softcap=self.config.score_softcap,
        )
        return attended.to(self.dtype)

    def _outputs(self, weights: Layer, hidden: Tensor, attended: Tensor) -> Tensor:
        """Return hidden states (N, E) of some rows after the layer."""
        out = weights.out(attended)
        if weights.out_bias is not None:
            out = out + weights.out_bias
        if weights.after_attention is not None:
            out = self._norm(out, weights.after_attention)
        hidden = hidden + out
        fed = weights.feed_forward(self._norm(hidden, weights.before_ffn))
        if weights.after_ffn is not None:
            fed = self._norm(fed, weights.after_ffn)
        return hidden + fed

    def _norm(self, rows: Tensor, factors: Tensor) -> Tensor:
        """Root-mean-square norm, in fp32 whatever the model's type is."""
        normed = F.rms_norm(rows.float(), self._norm_shape, factors, self.config.epsilon)
        return normed.to(self.dtype)


def _joined(tiles: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    return tiles[0] if len(tiles) == 1 else torch.cat(tiles)
