"""A decoder-only model over a flat batch, one layer at a time.

Computes what an `Architecture` can describe: Llama, Mistral, Qwen2, Qwen3, Gemma-2, Gemma-3. Numerics follow
transformers' classes of these names: norms and rotations in fp32, residuals and products in the model's type.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from headway.engine.architecture import Activation, Architecture
from headway.engine.attention import attend
from headway.engine.embedding import as_embedding
from headway.engine.kv_pool import KvPool
from headway.engine.layout import Layout
from headway.engine.linear import FeedForward, Linear
from headway.engine.norm import normalise
from headway.engine.rotation import Rotation, frequencies, rotate, rotation
from headway.engine.weights import LayerWeights, Weights

# Shapes: N tokens of the step, E hidden, H query heads, K key/value heads, D head size, V vocabulary.

TILE_ROWS = 256  # rows that go through a layer together: what is made of them stays in the cache
CACHED_NUMBERS = (
    1 << 17
)  # fp32 numbers that elementwise work goes over again and again: a core's own cache


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
        weights, config = self._layers[index], self.config
        cosine, sine = rotations[config.sliding[index]]
        keys, values = pool.keys[index], pool.values[index]
        tiles = _tiles(len(hidden), TILE_ROWS)
        heads = config.heads + config.kv_heads
        queries_keys = torch.empty(len(hidden), heads, config.head_size, dtype=keys.dtype)
        for tile in tiles:
            turn = cosine[tile], sine[tile]
            value = self._inputs(weights, hidden[tile], turn, queries_keys[tile])
            values.index_copy_(0, layout.slots[tile], value.to(values.dtype))
        keys.index_copy_(0, layout.slots, queries_keys[:, config.heads :])
        attended = attend(
            queries_keys[:, : config.heads],
            keys,
            values,
            layout.groups,
            scale=self._score_scale,
            sliding=config.sliding[index],
            softcap=config.score_softcap,
        ).to(self.dtype)
        after = torch.empty_like(hidden)
        for tile in tiles:
            self._outputs(weights, hidden[tile], attended[tile], after[tile])
        return after

    def head(self, rows: Tensor) -> Tensor:
        """Return logits (rows, V) of hidden states (rows, E) after the last layer.

        In the model's type: they are megabytes a row, and a copy in fp32 costs more than it tells.
        """
        logits = self._head(self._norm(rows, self._final))
        cap = self.config.logit_softcap
        return logits if cap is None else torch.tanh(logits.float() / cap) * cap

    def _inputs(
        self, weights: Layer, hidden: Tensor, turn: Rotation, queries_keys: Tensor
    ) -> Tensor:
        """Write queries and keys (N, H + K, D) of some rows, and return their values (N, K, D)."""
        config = self.config
        size, heads = config.head_size, queries_keys.shape[1]
        fused = weights.qkv(self._norm(hidden, weights.before_attention))
        if weights.qkv_bias is not None:
            fused = fused + weights.qkv_bias
        plain, value = fused.tensor_split([heads * size], -1)
        plain = plain.view(-1, heads, size)
        cosine, sine = turn
        for some in _tiles(len(hidden), max(1, CACHED_NUMBERS // (heads * size))):
            turning = plain[some].to(torch.float32, copy=True)
            spare = torch.empty_like(turning)
            if weights.qk_norm is not None:
                normalise(turning, weights.qk_norm, config.epsilon, spare)
            rotate(turning, (cosine[some], sine[some]), spare)
            # rounded to the model's type first, as the reference does, whatever KV is held in
            queries_keys[some] = turning.to(self.dtype)
        return value.view(-1, config.kv_heads, size)

    def _outputs(self, weights: Layer, hidden: Tensor, attended: Tensor, after: Tensor) -> None:
        """Write hidden states (N, E) of some rows after the layer."""
        out = weights.out(attended)
        if weights.out_bias is not None:
            out = out + weights.out_bias
        if weights.after_attention is not None:
            out = self._norm(out, weights.after_attention)
        between = hidden + out
        fed = weights.feed_forward(self._norm(between, weights.before_ffn))
        if weights.after_ffn is not None:
            fed = self._norm(fed, weights.after_ffn)
        torch.add(between, fed, out=after)

    def _norm(self, rows: Tensor, factors: Tensor) -> Tensor:
        """Root-mean-square norm, in fp32 whatever the model's type is."""
        normed = rows.to(torch.float32, copy=True)
        normalise(normed, factors, self.config.epsilon, torch.empty_like(normed))
        return normed.to(self.dtype)


def _tiles(rows: int, most: int) -> list[slice]:
    return [slice(first, min(rows, first + most)) for first in range(0, rows, most)]
