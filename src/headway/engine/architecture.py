"""The shape of a decoder-only model: what Llama, Mistral, Qwen and Gemma differ in, as one dataclass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from headway.errors import ModelFileError

Activation = Literal["silu", "gelu_tanh"]

_GEMMA: Mapping[str, Any] = {"post_norms": True, "activation": "gelu_tanh"}
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "llama": {},
    "mistral": {},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": True},
    "gemma2": _GEMMA,
    "gemma3": {**_GEMMA, "qk_norm": True},
}
"""By family: the fields of `Architecture` that all its members share."""

GEMMAS = frozenset({"gemma2", "gemma3"})

# Far above any model there is: a damaged file must not make us allocate by its word.
MOST_LAYERS = 1024
MOST_OF_A_SIZE = 1 << 24
MOST_CONTEXT = 1 << 32


@dataclass(frozen=True, slots=True)
class Llama3Scaling:
    """How Llama 3.1 stretches positions: long wavelengths by a factor, short ones not at all.

    Source: Grattafiori et al., "The Llama 3 Herd of Models", 2024, and transformers' rope type `llama3`.
    """

    low: float  # wavelengths above original / low are divided by the factor
    high: float  # those below original / high stay; between the two it fades
    original_tokens: int  # context the unstretched model was trained for


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding of one kind of layers.

    Source: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021.
    """

    theta: float
    factor: float = 1.0  # frequencies are divided by it; all of them unless `llama3` says which
    llama3: Llama3Scaling | None = None
    divisors: tuple[float, ...] = ()  # one for each frequency, where a file brings them worked out


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes and options; `sliding` says of each layer whether it sees only `window` tokens.

    The defaults are Llama's. Where no layer slides, `window` is `context_tokens`.
    """

    family: str
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context_tokens: int  # longest the model was trained for
    window: int  # a query sees itself and window - 1 tokens before it
    sliding: tuple[bool, ...]
    query_scalar: float  # scores are divided by its root
    rope: Rope
    sliding_rope: Rope  # of layers that slide; the same but in Gemma-3
    epsilon: float = 1e-6
    activation: Activation = "silu"
    post_norms: bool = False  # a norm behind attention and one behind the MLP
    qk_norm: bool = False  # a norm over each query and key head
    qkv_bias: bool = False
    out_bias: bool = False
    tied: bool = True  # the embedding is also the head
    embedding_scale: float | None = None
    score_softcap: float | None = None
    logit_softcap: float | None = None

    @property
    def layers(self) -> int:
        """How many layers."""
        return len(self.sliding)

    @property
    def kv_bytes_per_token(self) -> int:
        """Of all layers together, in fp32."""
        return self.layers * 2 * self.kv_heads * self.head_size * 4

    def checked(self, name: str) -> Architecture:
        """Return itself when its sizes are possible; `name` is the file to blame.

        Raises:
            ModelFileError: a size is not positive or absurd, or two of them contradict each other.
        """
        sizes = ("hidden", "ffn", "heads", "kv_heads", "head_size", "vocabulary")
        limits = dict.fromkeys(sizes, MOST_OF_A_SIZE) | {
            "context_tokens": MOST_CONTEXT,
            "window": MOST_CONTEXT,
            "layers": MOST_LAYERS,
        }
        for field, most in limits.items():
            if not 1 <= (value := getattr(self, field)) <= most:
                raise ModelFileError(
                    f"{name} says {field}={value}, possible are 1 to {most}: download it again"
                )
        if self.heads % self.kv_heads or self.head_size % 2:
            raise ModelFileError(
                f"{name} says {self.heads} heads of {self.head_size} over {self.kv_heads} key/value"
                " heads: heads must be a multiple of key/value heads, and their size even"
            )
        reals = {
            "query_scalar": self.query_scalar,
            "epsilon": self.epsilon,
            "rope theta": self.rope.theta,
            "rope theta of sliding layers": self.sliding_rope.theta,
            "rope factor": self.rope.factor,
            "rope factor of sliding layers": self.sliding_rope.factor,
        }
        for what, real in reals.items():
            if not (math.isfinite(real) and real > 0):
                raise ModelFileError(
                    f"{name} says {what}={real}, possible are finite numbers above 0:"
                    " download it again"
                )
        return self


def layers_of(count: int, name: str) -> range:
    """Return the layers' indices, once their number is known to be possible."""
    if not 1 <= count <= MOST_LAYERS:
        raise ModelFileError(
            f"{name} says {count} layers, possible are 1 to {MOST_LAYERS}: download it again"
        )
    return range(count)


def by_pattern(layers: range, pattern: int) -> tuple[bool, ...]:
    """Say which layers slide when every `pattern`-th sees everything."""
    return tuple(bool((layer + 1) % pattern) for layer in layers)
