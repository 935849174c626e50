"""The shape of a Gemma-3 text model, from GGUF metadata or a Hugging Face `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headway.checkpoint.gguf_file import GgufFile
from headway.errors import ModelFileError

PATTERN = 6  # every sixth layer attends to everything
LOCAL_THETA, GLOBAL_THETA = 1e4, 1e6
LAYERS_27B = 62  # the one size whose queries are scaled by hidden / heads

_Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes of a Gemma-3 text model; `sliding` says of each layer whether it sees only `window` tokens."""

    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int  # longest the model was trained for
    window: int  # a query sees itself and window - 1 tokens before it
    sliding: tuple[bool, ...]
    query_scalar: float  # scores are divided by its root
    epsilon: float = 1e-6
    local_theta: float = LOCAL_THETA
    global_theta: float = GLOBAL_THETA
    global_factor: float = 1.0  # linear position scaling of global layers (4B and larger)

    @property
    def layers(self) -> int:
        """How many layers."""
        return len(self.sliding)

    @property
    def kv_bytes_per_token(self) -> int:
        """Of all layers together, in fp32."""
        return self.layers * 2 * self.kv_heads * self.head_size * 4


def config_from_gguf(file: GgufFile) -> Architecture:
    """Read the metadata llama.cpp writes for architecture `gemma3`."""
    architecture = file.text("general.architecture")
    if architecture != "gemma3":
        message = f"{file.name} holds a {architecture or 'nameless'} model: only gemma3 can be served here"
        raise ModelFileError(message)

    def size(key: str, default: int | None = None) -> int:
        return int(file.number(f"gemma3.{key}", default))

    layers, hidden, heads = (
        size("block_count"),
        size("embedding_length"),
        size("attention.head_count"),
    )
    head_size = size("attention.key_length")
    pattern = size("attention.sliding_window_pattern", PATTERN)
    return Architecture(
        hidden=hidden,
        ffn=size("feed_forward_length"),
        heads=heads,
        kv_heads=size("attention.head_count_kv"),
        head_size=head_size,
        vocabulary=_vocabulary(file),
        context=size("context_length"),
        window=size("attention.sliding_window"),
        sliding=_by_pattern(layers, pattern),
        query_scalar=hidden / heads if layers == LAYERS_27B else head_size,
        # the file has it as fp32; Hugging Face computes with the decimal
        epsilon=float(f"{file.number('gemma3.attention.layer_norm_rms_epsilon'):.6g}"),
        local_theta=file.number("gemma3.rope.freq_base_swa", LOCAL_THETA),
        global_theta=file.number("gemma3.rope.freq_base", GLOBAL_THETA),
        global_factor=file.number("gemma3.rope.scaling.factor", 1.0),
    )


def config_from_json(config: _Json, name: str) -> Architecture:
    """Read a `config.json`, of transformers 4 (flat rope keys) or 5 (`rope_parameters`).

    Raises:
        ModelFileError: another architecture, or an option that would change the tokens and is not built.
    """
    if config.get("model_type") != "gemma3_text":
        message = (
            f"{name} holds a {config.get('model_type')} model: only gemma3_text can be served here"
        )
        raise ModelFileError(message)
    for option in (
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "attention_bias",
        "use_bidirectional_attention",
    ):
        if config.get(option):
            message = (
                f"{name} sets {option}={config[option]}: this engine computes Gemma-3 without it"
            )
            raise ModelFileError(message)
    if not config.get("tie_word_embeddings", True):
        message = f"{name} has a head of its own: this engine computes Gemma-3 with the tied one"
        raise ModelFileError(message)
    try:
        return _from_json(config, name)
    except KeyError as error:
        message = f"{name} lacks {error}: write it with save_pretrained of a current transformers"
        raise ModelFileError(message) from error


def _from_json(config: _Json, name: str) -> Architecture:
    layers = int(config["num_hidden_layers"])
    local, wide = _ropes(config)
    kinds = config.get("layer_types")
    if (
        wide.get("rope_type", "default") not in ("default", "linear")
        or local.get("rope_type", "default") != "default"
    ):
        message = (
            f"{name} scales positions as {wide.get('rope_type')}: only linear scaling is built"
        )
        raise ModelFileError(message)
    return Architecture(
        hidden=int(config["hidden_size"]),
        ffn=int(config["intermediate_size"]),
        heads=int(config["num_attention_heads"]),
        kv_heads=int(config["num_key_value_heads"]),
        head_size=int(config["head_dim"]),
        vocabulary=int(config["vocab_size"]),
        context=int(config["max_position_embeddings"]),
        window=int(config["sliding_window"]),
        sliding=(
            tuple(kind == "sliding_attention" for kind in kinds)
            if kinds
            else _by_pattern(layers, int(config.get("sliding_window_pattern", PATTERN)))
        ),
        query_scalar=float(config["query_pre_attn_scalar"]),
        epsilon=float(config["rms_norm_eps"]),
        local_theta=float(local.get("rope_theta", LOCAL_THETA)),
        global_theta=float(wide.get("rope_theta", GLOBAL_THETA)),
        global_factor=float(wide.get("factor", 1.0)),
    )


def _ropes(config: _Json) -> tuple[_Json, _Json]:
    """Return the rope parameters of local and of global layers."""
    both = config.get("rope_parameters")
    if both:
        return both.get("sliding_attention") or {}, both.get("full_attention") or {}
    scaling = dict(config.get("rope_scaling") or {})
    scaling.setdefault("rope_theta", config.get("rope_theta", GLOBAL_THETA))
    return {"rope_theta": config.get("rope_local_base_freq", LOCAL_THETA)}, scaling


def _by_pattern(layers: int, pattern: int) -> tuple[bool, ...]:
    return tuple(bool((layer + 1) % pattern) for layer in range(layers))


def _vocabulary(file: GgufFile) -> int:
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        message = (
            f"{file.name} lacks tensor token_embd.weight: it is not a complete Gemma-3 text model"
        )
        raise ModelFileError(message)
    return embedding.shape[0]
