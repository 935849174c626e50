"""Read an architecture from a Hugging Face `config.json`.

Absent keys mean what they mean to transformers' configuration class of that model type: checkpoints of
Gemma-3 leave most of them out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from headway.engine.architecture import (
    FAMILIES,
    GEMMAS,
    Activation,
    Architecture,
    Llama3Scaling,
    Rope,
    by_pattern,
    layers_of,
)
from headway.errors import ModelFileError

_Json = Mapping[str, Any]

CLASSES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Gemma2ForCausalLM": "gemma2",
    "Gemma3ForCausalLM": "gemma3",
    "Gemma3ForConditionalGeneration": "gemma3",
}
MODEL_TYPES = {
    "llama": "llama",
    "mistral": "mistral",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "gemma3": "gemma3",
}
ACTIVATIONS: Mapping[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
}
_SILU: _Json = {"hidden_act": "silu", "rms_norm_eps": 1e-6, "tie_word_embeddings": False}
_GEMMA: _Json = {
    "hidden_activation": "gelu_pytorch_tanh",
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "head_dim": 256,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
}
DEFAULTS: Mapping[str, _Json] = {
    "llama": _SILU,
    "mistral": {**_SILU, "sliding_window": 4096},
    "qwen2": {**_SILU, "sliding_window": 4096},
    "qwen3": {**_SILU, "sliding_window": 4096, "head_dim": 128},
    "gemma2": {
        **_GEMMA,
        "max_position_embeddings": 8192,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "sliding_window_pattern": 2,
    },
    "gemma3": {
        **_GEMMA,
        "vocab_size": 262_208,
        "max_position_embeddings": 131_072,
        "sliding_window_pattern": 6,
        "rope_theta": 1e6,
    },
}
THETA, SLIDING_THETA = 1e4, 1e4
MOST_WHOLE = (
    2**53
)  # JSON's numbers are exact up to here, and what is counted with them fits a float
# Options that would change the tokens and are not built.
REFUSED = ("quantization_config", "mlp_bias", "use_bidirectional_attention")


def config_from_json(config: _Json, name: str) -> Architecture:
    """Read a `config.json`, of transformers 4 (flat rope keys) or 5 (`rope_parameters`).

    Raises:
        ModelFileError: another architecture, an impossible value, or an option that would change the
            tokens and is not built.
    """
    family = _family(config, name)
    text = text_config(config)
    for option in REFUSED:
        if text.get(option) or config.get(option):
            raise ModelFileError(
                f"{name} sets {option}, which this engine does not compute: give a checkpoint without it"
            )
    tied = {key: config[key] for key in ("tie_word_embeddings",) if key in config}
    fields = _Fields({**DEFAULTS[family], **text, **tied}, name)
    return _architecture(family, fields).checked(name)


def text_config(config: _Json) -> _Json:
    """Return the part that describes the language model; the rest describes a vision tower."""
    inner = config.get("text_config")
    return inner if isinstance(inner, Mapping) else config


def _family(config: _Json, name: str) -> str:
    kind = config.get("model_type")
    given_classes = config.get("architectures")
    classes = given_classes if isinstance(given_classes, list) else []
    for given, known in (*((cls, CLASSES) for cls in classes), (kind, MODEL_TYPES)):
        if not isinstance(given, str) or given not in known:
            raise ModelFileError(
                f"{name} holds a model of type {str(given)[:80]!a}: this engine computes {', '.join(CLASSES)}"
            )
    return MODEL_TYPES[str(kind)]


def _architecture(family: str, fields: _Fields) -> Architecture:
    hidden, heads = fields.size("hidden_size"), fields.size("num_attention_heads")
    layers = layers_of(fields.size("num_hidden_layers"), fields.name)
    head_size = fields.size("head_dim", hidden // max(1, heads))
    context = fields.size("max_position_embeddings")
    window = _window(family, fields)
    sliding = _sliding(family, fields, layers, window)
    rope, sliding_rope = _ropes(family, fields, context)
    gemma, biased = family in GEMMAS, family != "mistral" and bool(fields.get("attention_bias"))
    traits = dict(FAMILIES[family]) | {"activation": _activation(fields)}
    if biased and family != "qwen2":
        traits |= {"qkv_bias": True, "out_bias": True}
    return Architecture(
        family=family,
        hidden=hidden,
        ffn=fields.size("intermediate_size"),
        heads=heads,
        kv_heads=fields.size("num_key_value_heads", heads),
        head_size=head_size,
        vocabulary=fields.size("vocab_size"),
        context_tokens=context,
        window=window if window and any(sliding) else context,
        sliding=sliding,
        query_scalar=fields.real("query_pre_attn_scalar") if gemma else float(head_size),
        rope=rope,
        sliding_rope=sliding_rope,
        epsilon=fields.real("rms_norm_eps"),
        tied=bool(fields.get("tie_word_embeddings")),
        embedding_scale=hidden**0.5 if gemma else None,
        score_softcap=fields.cap("attn_logit_softcapping") if gemma else None,
        logit_softcap=fields.cap("final_logit_softcapping") if gemma else None,
        **traits,
    )


def _window(family: str, fields: _Fields) -> int | None:
    if family == "llama" or (family.startswith("qwen") and not fields.get("use_sliding_window")):
        return None
    return None if fields.get("sliding_window") is None else fields.size("sliding_window")


def _sliding(family: str, fields: _Fields, layers: range, window: int | None) -> tuple[bool, ...]:
    kinds = fields.get("layer_types")
    if kinds and family != "mistral":  # transformers ignores Mistral's
        known = ("sliding_attention", "full_attention")
        if (
            not isinstance(kinds, list)
            or len(kinds) != len(layers)
            or not all(kind in known for kind in kinds)
        ):
            raise ModelFileError(
                f"{fields.name} lists layer_types {str(kinds)[:80]}: {len(layers)} of"
                f" {' or '.join(known)} are needed"
            )
        if "sliding_attention" in kinds and window is None:
            raise ModelFileError(
                f"{fields.name} has sliding layers but no sliding_window: add its size in tokens"
            )
        return tuple(kind == "sliding_attention" for kind in kinds)
    if window is None:
        return (False,) * len(layers)
    if family == "mistral":
        return (True,) * len(layers)
    if family.startswith("qwen"):
        first = fields.size("max_window_layers", 28, least=0)
        return tuple(layer >= first for layer in layers)
    return by_pattern(layers, fields.size("sliding_window_pattern"))


def _activation(fields: _Fields) -> Activation:
    given = fields.get("hidden_activation") or fields.get("hidden_act")
    if not isinstance(given, str) or given not in ACTIVATIONS:
        raise ModelFileError(
            f"{fields.name} says activation {str(given)[:40]!a}: this engine computes {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[given]


def _ropes(family: str, fields: _Fields, context: int) -> tuple[Rope, Rope]:
    """Return the rotations of global and of sliding layers."""
    given: Any = fields.get("rope_parameters") or fields.get("rope_scaling") or {}
    theta = sliding_theta = fields.real("rope_theta", THETA)
    wide = local = given
    if family == "gemma3":  # what stretches global layers leaves the sliding ones alone
        local, sliding_theta = {}, fields.real("rope_local_base_freq", SLIDING_THETA)
    if isinstance(given, Mapping) and given.keys() & {"full_attention", "sliding_attention"}:
        wide, local = given.get("full_attention") or {}, given.get("sliding_attention") or {}
    return _rope(wide, theta, fields, context), _rope(local, sliding_theta, fields, context)


def _rope(given: Any, theta: float, fields: _Fields, context: int) -> Rope:
    if not isinstance(given, Mapping):
        raise ModelFileError(f"{fields.name} has rope parameters {str(given)[:80]}: give an object")
    rope = _Fields(given, fields.name)
    theta = rope.real("rope_theta", theta)
    kind = given.get("rope_type", given.get("type")) or "default"
    if not isinstance(kind, str) or kind not in ("default", "linear", "llama3"):
        raise ModelFileError(
            f"{fields.name} scales positions as {str(kind)[:40]!a}: this engine computes default, linear and llama3"
        )
    part = rope.get("partial_rotary_factor", fields.get("partial_rotary_factor"))
    if part not in (None, 1, 1.0):
        raise ModelFileError(
            f"{fields.name} sets partial_rotary_factor={str(part)[:40]}: this engine rotates whole heads only"
        )
    if kind == "default":
        return Rope(theta)
    factor = rope.real("factor")
    if kind == "linear":
        return Rope(theta, factor)
    low, high = rope.real("low_freq_factor"), rope.real("high_freq_factor")
    if not 0 < low < high:
        raise ModelFileError(
            f"{fields.name} says low_freq_factor={low}, high_freq_factor={high}: the first must be"
            " above 0 and below the second"
        )
    original = rope.size("original_max_position_embeddings", context)
    return Rope(theta, factor, Llama3Scaling(low, high, original))


class _Fields:
    """Keys of a JSON object; None counts as absent."""

    def __init__(self, values: _Json, name: str) -> None:
        self._values, self.name = values, name

    def get(self, key: str, default: Any = None) -> Any:
        value = self._values.get(key)
        return default if value is None else value

    def size(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        value = self._required(key, default)
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or not least <= value <= MOST_WHOLE
        ):
            raise ModelFileError(
                f"{self.name} says {key}={str(value)[:40]}: a whole number from {least} to"
                f" {MOST_WHOLE} is needed"
            )
        return value

    def real(self, key: str, default: float | None = None) -> float:
        value = self._required(key, default)
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or abs(value) > 1e300  # an int of any length would not fit a float
            or not math.isfinite(value)
        ):
            raise ModelFileError(
                f"{self.name} says {key}={str(value)[:40]}: a finite number is needed"
            )
        return float(value)

    def cap(self, key: str) -> float | None:
        """A soft cap; absent, null and 0 mean none."""
        value = self.real(key, 0.0)
        if value < 0:
            raise ModelFileError(f"{self.name} says {key}={value}: a cap must be above 0")
        return value or None

    def _required(self, key: str, default: Any) -> Any:
        value = self.get(key, default)
        if value is None:
            raise ModelFileError(
                f"{self.name} lacks {key!r}: write it with save_pretrained of a current transformers"
            )
        return value
