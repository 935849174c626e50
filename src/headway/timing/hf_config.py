"""Read a model's shape from the `config.json` that is published beside its weights."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from headway.errors import ModelFileError
from headway.timing.model_sheet import Experts, Latent, ModelSheet

Config = dict[str, Any]

_UNGATED = frozenset(
    "bloom codegen falcon gpt2 gpt_bigcode gpt_neo gpt_neox gptj mpt opt phi starcoder2 stablelm_epoch".split()
)
_TIED_BY_DEFAULT = frozenset("bloom falcon gemma gemma2 gemma3 gemma3_text gpt2 opt".split())
_DTYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
# Model types whose window alternates with full attention when the config does not list its layers.
_FULL_EVERY = {"gemma2": 2, "gpt_oss": 2, "gemma3": 6, "gemma3_text": 6, "cohere2": 4}
_STATEFUL = frozenset({"linear_attention", "mamba", "recurrent"})


def from_hf_config(path: str | Path) -> ModelSheet:
    """Build a sheet from a `config.json` or from the folder that holds it.

    Vision and audio towers are left out. Raises ModelFileError when the file is missing, is no JSON
    object, lacks a size, or describes an architecture without attention layers we can count.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "config.json"
    try:
        outer = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFileError(f"cannot read {str(file)!r}: {error}") from error
    if not isinstance(outer, dict):
        raise ModelFileError(f"{str(file)!r} is not a model config: it holds no JSON object")
    name = file.parent.name if file.name == "config.json" else file.stem
    config = {**outer, **outer.get("text_config", {})}
    if "hybrid_override_pattern" in config:
        raise ModelFileError(
            f"{name} mixes attention, state-space and MLP-only layers: write a TOML sheet for it"
        )
    return _sheet(name, config)


def _sheet(name: str, config: Config) -> ModelSheet:
    kind = str(config.get("model_type", ""))
    heads = _size(name, config, "num_attention_heads", "n_head")
    hidden = _size(name, config, "hidden_size", "n_embd", "d_model")
    layers = _size(name, config, "num_hidden_layers", "n_layer", "n_layers")
    latent, experts = _latent(name, config), _experts(name, config)
    window, windowed, stateful = _layer_kinds(config, kind, layers)
    notes = []
    if stateful:
        notes.append("linear-attention layers counted as attention without KV")
    if outer_parts := [part for part in ("vision_config", "audio_config") if config.get(part)]:
        notes.append(f"without {', '.join(part.removesuffix('_config') for part in outer_parts)}")
    if experts:
        notes.append("experts hit under uniform routing")
    if config.get("num_global_key_value_heads"):
        notes.append("full-attention layers counted with the KV heads of windowed ones")
    if "index_topk" in config:
        notes.append("sparse attention counted as dense")
    return ModelSheet(
        name=name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=_kv_heads(config, kind, heads),
        head_size=int(config.get("head_dim") or hidden // heads),
        ffn=_size(name, config, "intermediate_size", "ffn_dim", "n_inner", default=4 * hidden),
        vocab=_size(name, config, "vocab_size"),
        max_context=_size(
            name, config, "max_position_embeddings", "n_positions", "max_seq_len", default=2048
        ),
        gated=kind not in _UNGATED,
        tied=bool(config.get("tie_word_embeddings", kind in _TIED_BY_DEFAULT)),
        window=window,
        windowed_layers=windowed,
        stateful_layers=stateful,
        experts=experts,
        latent=latent,
        precision=_precision(config),
        kv_element_bytes=4.0 if _precision(config) == "fp32" else 2.0,
        approximate="; ".join(notes),
    )


def _size(name: str, config: Config, *keys: str, default: int | None = None) -> int:
    for key in keys:
        if config.get(key) is not None:
            return int(config[key])
    if default is None:
        raise ModelFileError(f"the config of {name} lacks {keys[0]}: not a language model we know")
    return default


def _kv_heads(config: Config, kind: str, heads: int) -> int:
    if (
        kind == "falcon"
        and config.get("multi_query")
        and not config.get("new_decoder_architecture")
    ):
        return 1
    return int(config.get("num_key_value_heads") or config.get("num_kv_heads") or heads)


def _latent(name: str, config: Config) -> Latent | None:
    if not config.get("kv_lora_rank"):
        return None
    return Latent(
        kv_rank=_size(name, config, "kv_lora_rank"),
        rope_size=_size(name, config, "qk_rope_head_dim"),
        nope_size=_size(name, config, "qk_nope_head_dim"),
        value_size=_size(name, config, "v_head_dim"),
        query_rank=config.get("q_lora_rank"),
    )


def _experts(name: str, config: Config) -> Experts | None:
    counts = ("num_local_experts", "n_routed_experts", "num_experts")
    count = next((int(config[key]) for key in counts if config.get(key)), 0)
    if count < 2:
        return None
    inner = _size(name, config, "moe_intermediate_size", "intermediate_size")
    shared = int(config.get("n_shared_experts") or 0) * inner
    shared += int(config.get("shared_expert_intermediate_size") or 0)
    if config.get("enable_moe_block"):  # Gemma 4: a plain FFN beside the experts
        shared += _size(name, config, "intermediate_size")
    dense = int(config.get("first_k_dense_replace") or 0) + len(config.get("mlp_only_layers") or ())
    quantised = config.get("quantization_config") or {}
    return Experts(
        count=count,
        top_k=_size(name, config, "num_experts_per_tok", "top_k_experts", "experts_per_token"),
        ffn=inner,
        shared_ffn=shared,
        dense_layers=dense,
        precision="mxfp4" if quantised.get("quant_method") == "mxfp4" else None,
    )


def _layer_kinds(config: Config, kind: str, layers: int) -> tuple[int | None, int, int]:
    """(window, windowed layers, layers without KV)."""
    window = config.get("sliding_window")
    if config.get("use_sliding_window") is False:
        window = None
    listed: Iterable[str] = config.get("layer_types") or ()
    kinds = list(listed)
    stateful = sum(kind in _STATEFUL for kind in kinds)
    if not window or window >= config.get("max_position_embeddings", window + 1):
        return None, 0, stateful
    if kinds:
        windowed = sum(kind == "sliding_attention" for kind in kinds)
    elif every := config.get("sliding_window_pattern") or _FULL_EVERY.get(kind):
        windowed = layers - layers // int(every)
    elif config.get("max_window_layers") is not None:  # Qwen2: the first ones are full
        windowed = max(0, layers - int(config["max_window_layers"]))
    else:
        windowed = layers
    return (int(window), windowed, stateful) if windowed else (None, 0, stateful)


def _precision(config: Config) -> str:
    quantised = config.get("quantization_config") or {}
    method = str(quantised.get("quant_method", ""))
    if method in {"fp8", "fbgemm_fp8"}:
        return "fp8"
    if method in {"awq", "gptq"}:
        return "int4" if int(quantised.get("bits", 4)) <= 4 else "int8"
    if method == "compressed-tensors":
        groups = quantised.get("config_groups", {}).values()
        weights = next((group.get("weights") or {} for group in groups), {})
        if weights.get("num_bits") == 4:
            return "fp4" if weights.get("type") == "float" else "int4"
        return "fp8" if weights.get("type") == "float" else "int8"
    dtype = config.get("dtype") or config.get("torch_dtype") or "bfloat16"
    return _DTYPES.get(str(dtype), "bf16")
