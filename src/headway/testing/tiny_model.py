"""A random Gemma small enough for tests, and the executors around it. The one module here that imports torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch

from headway.core.protocols import Clock
from headway.engine.architecture import FAMILIES, Architecture, Rope
from headway.engine.decoder import Decoder
from headway.engine.executor import TorchExecutor
from headway.engine.kv_exchange import KvExchange
from headway.engine.weights import LayerWeights, Weights
from headway.sim import Lengths

VOCABULARY = 512
LAYERS = 8


def tiny_config() -> Architecture:
    """Eight layers, six of them with a window of 12 tokens."""
    return Architecture(
        family="gemma3",
        hidden=64,
        ffn=96,
        heads=4,
        kv_heads=1,
        head_size=16,
        vocabulary=VOCABULARY,
        context_tokens=2048,
        window=12,
        sliding=tuple((layer + 1) % 4 != 0 for layer in range(LAYERS)),
        query_scalar=16.0,
        rope=Rope(1e6),
        sliding_rope=Rope(1e4),
        embedding_scale=8.0,
        **FAMILIES["gemma3"],
    )


@cache
def tiny_model(seed: int = 11) -> Decoder:
    """Equal seeds, equal weights."""
    return Decoder(tiny_config(), tiny_weights(tiny_config(), seed))


def tiny_weights(config: Architecture, seed: int = 11) -> Weights:
    """Far enough from zero that the most likely token keeps changing, and norms that are not 1."""
    random = torch.Generator().manual_seed(seed)
    hidden, heads, kv_heads, size = config.hidden, config.heads, config.kv_heads, config.head_size

    def draw(*shape: int, spread: float = 0.08, mean: float = 0.0) -> torch.Tensor:
        return torch.randn(shape, generator=random) * spread + mean

    def norm(*shape: int) -> torch.Tensor:
        return draw(*shape, spread=0.3, mean=1.0)

    layers = tuple(
        LayerWeights(
            before_attention=norm(hidden),
            after_attention=norm(hidden),
            before_ffn=norm(hidden),
            after_ffn=norm(hidden),
            qkv=draw((heads + 2 * kv_heads) * size, hidden),
            qk_norm=torch.cat([norm(size).expand(heads, size), norm(size).expand(kv_heads, size)]),
            out=draw(hidden, heads * size),
            gate_up=draw(2 * config.ffn, hidden),
            down=draw(hidden, config.ffn),
        )
        for _ in range(config.layers)
    )
    return Weights(draw(config.vocabulary, hidden, spread=0.02), norm(hidden), layers)


def tiny_executor(
    blocks: int, block_tokens: int = 16, exchange: KvExchange | None = None
) -> Callable[[Clock, Lengths], TorchExecutor]:
    """Return what `run_live` takes as `executor`; all share one model, and one thread each lane."""

    def make(clock: Clock, lengths: Lengths) -> TorchExecutor:
        del lengths  # this world computes them
        return TorchExecutor(
            clock,
            tiny_model(),
            blocks=blocks,
            block_tokens=block_tokens,
            exchange=exchange,
            threads=1,
        )

    return make
