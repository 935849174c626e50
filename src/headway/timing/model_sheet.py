"""What a model is, as far as time and memory care: its shape and its number formats.

Norms, biases and positional tables are ignored: together below 0.1 % of the parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from headway.errors import OptionError
from headway.timing.precision import precision


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts in place of the FFN: each token visits `top_k` of `count`, and all shared ones."""

    count: int
    top_k: int
    ffn: int  # inner width of one routed expert
    shared_ffn: int = 0  # inner width of all shared experts together
    dense_layers: int = 0  # layers that have the model's plain FFN instead
    precision: str | None = None  # of the routed experts; None: the model's
    skew: float = 0.0  # Zipf exponent of their popularity; 0: all alike


@dataclass(frozen=True, slots=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2): one compressed KV vector a token, shared by all heads."""

    kv_rank: int
    rope_size: int
    nope_size: int
    value_size: int
    query_rank: int | None = None  # None: queries are projected directly


@dataclass(frozen=True, slots=True)
class ModelSheet:
    """The facts of one decoder-only transformer. Parameter counts are exact up to norms and biases."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    ffn: int
    vocab: int
    max_context: int
    gated: bool = True  # gate, up and down projections; else up and down
    tied: bool = False  # the output head is the embedding
    window: int | None = None
    windowed_layers: int = 0  # layers that attend to the last `window` tokens only
    stateful_layers: int = 0  # layers with a constant state (linear attention, SSM) and no KV
    experts: Experts | None = None
    latent: Latent | None = None
    precision: str = "bf16"
    kv_element_bytes: float = 2.0
    approximate: str = ""  # what the formulas leave out for this model; printouts show it

    def __post_init__(self) -> None:
        """Refuse shapes no transformer has."""
        sizes = (self.layers, self.hidden, self.heads, self.kv_heads, self.head_size, self.vocab)
        if min(sizes) < 1 or self.ffn < 0:
            raise OptionError(f"model {self.name!r} has a size below 1: check its sheet")
        if self.heads % self.kv_heads:
            raise OptionError(
                f"model {self.name!r} has {self.heads} heads, not a multiple of its "
                f"{self.kv_heads} KV heads: check its sheet"
            )
        if self.windowed_layers and not self.window:
            raise OptionError(
                f"model {self.name!r} has windowed layers but no window: set `window`"
            )
        if self.windowed_layers + self.stateful_layers > self.layers:
            raise OptionError(
                f"model {self.name!r} has more windowed and stateful layers than its {self.layers}"
            )
        precision(self.precision)

    @property
    def attention_layers(self) -> int:
        """Layers that keep KV, windowed ones included."""
        return self.layers - self.stateful_layers

    @property
    def attention_parameters(self) -> int:
        """Projections of one layer's attention."""
        if self.latent is None:
            return 2 * self.hidden * self.head_size * (self.heads + self.kv_heads)
        latent, per_head = self.latent, self.latent.nope_size + self.latent.rope_size
        if latent.query_rank is None:
            queries = self.hidden * self.heads * per_head
        else:
            queries = self.hidden * latent.query_rank + latent.query_rank * self.heads * per_head
        compress = self.hidden * (latent.kv_rank + latent.rope_size)
        expand = latent.kv_rank * self.heads * (latent.nope_size + latent.value_size)
        return queries + compress + expand + self.heads * latent.value_size * self.hidden

    @property
    def expert_layers(self) -> int:
        """Layers with routed experts."""
        return 0 if self.experts is None else self.layers - self.experts.dense_layers

    @property
    def expert_parameters(self) -> int:
        """One routed expert of one layer."""
        return 0 if self.experts is None else self._ffn_parameters(self.experts.ffn)

    @property
    def common_block_parameters(self) -> int:
        """Everything in the blocks that every token uses: all but the routed experts."""
        attention = self.layers * self.attention_parameters
        if self.experts is None:
            return attention + self.layers * self._ffn_parameters(self.ffn)
        router = self.hidden * self.experts.count
        shared = self._ffn_parameters(self.experts.shared_ffn)
        dense = self.experts.dense_layers * self._ffn_parameters(self.ffn)
        return attention + dense + self.expert_layers * (router + shared)

    @property
    def block_parameters(self) -> int:
        """All layers, without embedding and head."""
        count = 0 if self.experts is None else self.experts.count
        return self.common_block_parameters + self.expert_layers * count * self.expert_parameters

    @property
    def active_block_parameters(self) -> int:
        """Parameters of the layers that one token uses."""
        top_k = 0 if self.experts is None else self.experts.top_k
        return self.common_block_parameters + self.expert_layers * top_k * self.expert_parameters

    @property
    def head_parameters(self) -> int:
        """The output head: vocabulary times hidden."""
        return self.vocab * self.hidden

    @property
    def embedding_parameters(self) -> int:
        """Embedding and head together; one matrix when tied."""
        return self.head_parameters * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.block_parameters + self.embedding_parameters

    @property
    def active_parameters(self) -> int:
        """Those that one token uses, embedding and head included (equal to `parameters` when dense)."""
        return self.active_block_parameters + self.embedding_parameters

    @property
    def common_block_bytes(self) -> float:
        """Weights of the layers that every step reads."""
        return self.common_block_parameters * precision(self.precision).weight_bytes

    @property
    def expert_bytes(self) -> float:
        """One routed expert of one layer."""
        name = self.precision if self.experts is None else self.experts.precision or self.precision
        return self.expert_parameters * precision(name).weight_bytes

    @property
    def head_bytes(self) -> float:
        """The output head."""
        return self.head_parameters * precision(self.precision).head_bytes

    @property
    def weight_bytes(self) -> int:
        """All weights in memory, rounded up."""
        count = 0 if self.experts is None else self.experts.count
        routed = self.expert_layers * count * self.expert_bytes
        embedding = self.embedding_parameters * precision(self.precision).head_bytes
        return math.ceil(self.common_block_bytes + routed + embedding)

    def hit_experts(self, tokens: int) -> float:
        """Expected distinct experts of a layer that `tokens` tokens visit, each token on its own."""
        if self.experts is None:
            return 0.0
        count, top_k, skew = self.experts.count, self.experts.top_k, self.experts.skew
        if skew:
            missed = (1.0 - visit_probabilities(count, top_k, skew)) ** tokens
            return float(count - missed.sum())
        return count * (1.0 - (1.0 - top_k / count) ** tokens)

    def kv_elements_per_token(self, tp: int = 1) -> int:
        """KV elements of one layer and one token on one of `tp` GPUs.

        KV heads are split, and replicated once there are fewer of them than GPUs; a latent vector
        is always replicated.
        """
        if self.latent is not None:
            return self.latent.kv_rank + self.latent.rope_size
        return 2 * -(-self.kv_heads // tp) * self.head_size

    def kv_bytes_per_token(self, tp: int = 1) -> int:
        """KV of one token in all layers on one of `tp` GPUs, windows ignored."""
        elements = self.attention_layers * self.kv_elements_per_token(tp)
        return math.ceil(elements * self.kv_element_bytes)

    def kv_bytes(self, tokens: int, tp: int = 1) -> int:
        """KV of one sequence of `tokens` tokens, if windowed layers keep no more than their window."""
        full = (self.attention_layers - self.windowed_layers) * tokens
        windowed = self.windowed_layers * min(tokens, self.window or tokens)
        return math.ceil((full + windowed) * self.kv_elements_per_token(tp) * self.kv_element_bytes)

    def at(self, weights: str, kv_element_bytes: float | None = None) -> ModelSheet:
        """The same model with its weights in another number format."""
        kv = self.kv_element_bytes if kv_element_bytes is None else kv_element_bytes
        experts = None if self.experts is None else replace(self.experts, precision=None)
        return replace(self, precision=weights, kv_element_bytes=kv, experts=experts)

    def _ffn_parameters(self, inner: int) -> int:
        return (3 if self.gated else 2) * self.hidden * inner


@cache
def visit_probabilities(count: int, top_k: int, skew: float) -> npt.NDArray[np.float64]:
    """Return the probability that a token visits each expert, most popular first; they sum to `top_k`.

    Proportional to rank^-skew, and at most 1: what a certain visit leaves over goes to the others.
    """
    weights = np.arange(1, count + 1, dtype=np.float64) ** -skew
    visits = np.zeros(count)
    certain = 0
    while True:  # at most top_k rounds
        rest = weights[certain:]
        visits[certain:] = (top_k - certain) * rest / rest.sum()
        above = certain + int((visits[certain:] > 1.0).sum())
        if above == certain:
            return visits
        visits[:above] = 1.0
        certain = above
