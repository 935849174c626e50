"""Read an architecture from the metadata that llama.cpp's converter writes into a GGUF file."""

from __future__ import annotations

import math

import numpy as np

from headway.checkpoint.gguf_file import GgufFile
from headway.engine.architecture import (
    FAMILIES,
    GEMMAS,
    Architecture,
    Rope,
    by_pattern,
    layers_of,
)
from headway.errors import ModelFileError

FROM_GGUF = ("llama", "qwen2", "qwen3", "gemma2", "gemma3")  # Mistral is written as llama
THETA = 1e4
GEMMA3_THETA, GEMMA3_SLIDING_THETA = 1e6, 1e4
WINDOW = {"gemma2": 4096}
PATTERN = {"gemma2": 2, "gemma3": 6}
SCORE_CAP, LOGIT_CAP = 50.0, 30.0  # Gemma-2's, in files that do not say
LAYERS_27B = {"gemma2": 46, "gemma3": 62}  # the sizes whose queries are scaled by hidden / heads


def config_from_gguf(file: GgufFile) -> Architecture:
    """Read the metadata.

    Raises:
        ModelFileError: another architecture, an impossible value, or an option that would change the
            tokens and is not built.
    """
    family = file.text("general.architecture")
    if family not in FROM_GGUF:
        raise ModelFileError(
            f"{file.name} holds a model of architecture {family[:40]!a}: this engine computes"
            f" {', '.join(FROM_GGUF)}"
        )
    return _architecture(file, family).checked(file.name)


def _architecture(file: GgufFile, family: str) -> Architecture:
    keys = _Keys(file, family)
    _refuse(keys)
    layers = layers_of(keys.size("block_count"), file.name)
    hidden, heads = keys.size("embedding_length"), keys.size("attention.head_count")
    head_size = keys.size("attention.key_length", hidden // max(1, heads))
    context = keys.size("context_length")
    window = keys.size("attention.sliding_window", WINDOW.get(family, 0))
    if family == "gemma3" and not window:
        raise ModelFileError(
            f"{file.name} has no gemma3.attention.sliding_window: convert the model again"
        )
    sliding = _sliding(keys, layers, window)
    rope, sliding_rope = _ropes(keys, head_size)
    gemma = family in GEMMAS
    scalar = hidden / max(1, heads) if LAYERS_27B.get(family) == len(layers) else head_size
    traits = dict(FAMILIES[family])
    if "blk.0.attn_q.bias" in file.tensors:
        traits["qkv_bias"] = True
    if "blk.0.attn_output.bias" in file.tensors:
        traits["out_bias"] = True
    for key in ("attention.value_length", "rope.dimension_count"):
        if (size := keys.size(key, head_size)) != head_size:
            raise ModelFileError(
                f"{file.name} says {family}.{key}={size}: this engine computes heads of one size,"
                f" here {head_size}"
            )
    return Architecture(
        family=family,
        hidden=hidden,
        ffn=keys.size("feed_forward_length"),
        heads=heads,
        kv_heads=keys.size("attention.head_count_kv", heads),
        head_size=head_size,
        vocabulary=_vocabulary(file),
        context_tokens=context,
        window=window if any(sliding) else context,
        sliding=sliding,
        query_scalar=float(scalar),
        rope=rope,
        sliding_rope=sliding_rope,
        epsilon=keys.decimal("attention.layer_norm_rms_epsilon"),
        tied="output.weight" not in file.tensors,
        embedding_scale=max(0, hidden) ** 0.5 if gemma else None,
        score_softcap=keys.cap("attn_logit_softcapping", SCORE_CAP if family == "gemma2" else 0),
        logit_softcap=keys.cap("final_logit_softcapping", LOGIT_CAP if family == "gemma2" else 0),
        **traits,
    )


def _refuse(keys: _Keys) -> None:
    if keys.size("expert_count", 0):
        raise ModelFileError(f"{keys.name} has experts: this engine computes dense models only")
    kind = keys.text("rope.scaling.type") or "none"
    if kind not in ("none", "linear"):
        raise ModelFileError(
            f"{keys.name} scales positions as {kind!a:.40}: this engine computes none, linear and, for"
            " llama, the factors in rope_freqs.weight"
        )


def _sliding(keys: _Keys, layers: range, window: int) -> tuple[bool, ...]:
    if not window:
        return (False,) * len(layers)
    pattern = keys.value("attention.sliding_window_pattern")
    if isinstance(pattern, np.ndarray):
        if pattern.dtype != np.bool_ or len(pattern) != len(layers):
            raise ModelFileError(
                f"{keys.name} has {len(pattern)} values of sliding_window_pattern for"
                f" {len(layers)} layers: convert the model again"
            )
        return tuple(pattern.tolist())
    every = keys.size("attention.sliding_window_pattern", PATTERN.get(keys.family, 0))
    # no pattern, as with Mistral: all layers slide
    return by_pattern(layers, every) if every > 0 else (True,) * len(layers)


def _ropes(keys: _Keys, head_size: int) -> tuple[Rope, Rope]:
    """Return the rotations of global and of sliding layers."""
    gemma3 = keys.family == "gemma3"
    theta = keys.decimal("rope.freq_base", GEMMA3_THETA if gemma3 else THETA)
    factor = 1.0
    if keys.text("rope.scaling.type") != "none":
        factor = keys.decimal("rope.scaling.factor", keys.decimal("rope.scale_linear", 1.0))
    rope = Rope(theta, factor or 1.0, divisors=_divisors(keys, head_size))
    if gemma3:  # what stretches global layers leaves the sliding ones alone
        return rope, Rope(keys.decimal("rope.freq_base_swa", GEMMA3_SLIDING_THETA))
    return rope, rope


def _divisors(keys: _Keys, head_size: int) -> tuple[float, ...]:
    """Llama 3.1 and later: what each frequency is divided by, worked out by the converter."""
    if "rope_freqs.weight" not in keys.file.tensors:
        return ()
    divisors = keys.file.dequantise("rope_freqs.weight", (head_size // 2,))
    if not (np.isfinite(divisors).all() and (divisors > 0).all()):
        raise ModelFileError(
            f"{keys.name}: rope_freqs.weight holds values that are not above 0: download it again"
        )
    return tuple(divisors.tolist())


def _vocabulary(file: GgufFile) -> int:
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise ModelFileError(
            f"{file.name} lacks tensor token_embd.weight of two axes: it is not a complete text model"
        )
    return embedding.shape[0]


class _Keys:
    """Metadata of one architecture."""

    def __init__(self, file: GgufFile, family: str) -> None:
        self.file, self.family, self.name = file, family, file.name

    def value(self, key: str) -> object:
        return self.file.metadata.get(f"{self.family}.{key}")

    def text(self, key: str) -> str:
        return self.file.text(f"{self.family}.{key}")

    def size(self, key: str, default: int | None = None) -> int:
        value = self.file.number(f"{self.family}.{key}", default)
        if not math.isfinite(value):
            raise ModelFileError(
                f"{self.name} says {self.family}.{key}={value}: a whole number is needed"
            )
        return int(value)

    def decimal(self, key: str, default: float | None = None) -> float:
        """The file has it as fp32; Hugging Face computes with the decimal."""
        return float(f"{self.file.number(f'{self.family}.{key}', default):.6g}")

    def cap(self, key: str, default: float) -> float | None:
        """A soft cap; 0 means none."""
        value = self.decimal(key, default)
        if not math.isfinite(value) or value < 0:
            raise ModelFileError(
                f"{self.name} says {self.family}.{key}={value}: a cap must be above 0"
            )
        return value or None
