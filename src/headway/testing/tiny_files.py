"""A Gemma-3 with random weights, small enough for tests, as a Hugging Face directory.

The weights make the most likely token change from step to step: with a usual initialisation a random model
soon repeats one token for ever, and errors in the KV cache would not show. Imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file


@dataclass(frozen=True, slots=True)
class TinyShape:
    """Sizes, by their names in a config.json."""

    vocab_size: int = 512
    hidden_size: int = 64
    intermediate_size: int = 96
    num_hidden_layers: int = 8
    num_attention_heads: int = 4
    num_key_value_heads: int = 1
    head_dim: int = 16
    query_pre_attn_scalar: int = 16
    sliding_window: int = 12
    max_position_embeddings: int = 2048


def save_tiny_gemma(folder: Path, shape: TinyShape | None = None, *, seed: int = 11) -> Path:
    """Write `config.json` and `model.safetensors` into `folder` and return it. Equal seeds, equal bytes."""
    sizes = shape or TinyShape()
    folder.mkdir(parents=True, exist_ok=True)
    config = asdict(sizes) | {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "sliding_window_pattern": 6,
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
        "rms_norm_eps": 1e-6,
        "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": True,
        "bos_token_id": 2,
        "eos_token_id": None,
        "pad_token_id": 0,
        "dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    save_file(dict(_weights(sizes, seed)), folder / "model.safetensors", {"format": "pt"})
    return folder


def _weights(sizes: TinyShape, seed: int) -> Mapping[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    hidden, head = sizes.hidden_size, sizes.head_dim
    queries, keys = sizes.num_attention_heads * head, sizes.num_key_value_heads * head
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (sizes.vocab_size, hidden)}
    for layer in range(sizes.num_hidden_layers):
        at = f"model.layers.{layer}"
        shapes |= {
            f"{at}.self_attn.q_proj.weight": (queries, hidden),
            f"{at}.self_attn.k_proj.weight": (keys, hidden),
            f"{at}.self_attn.v_proj.weight": (keys, hidden),
            f"{at}.self_attn.o_proj.weight": (hidden, queries),
            f"{at}.self_attn.q_norm.weight": (head,),
            f"{at}.self_attn.k_norm.weight": (head,),
            f"{at}.mlp.gate_proj.weight": (sizes.intermediate_size, hidden),
            f"{at}.mlp.up_proj.weight": (sizes.intermediate_size, hidden),
            f"{at}.mlp.down_proj.weight": (hidden, sizes.intermediate_size),
        }
        for name in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            shapes[f"{at}.{name}_layernorm.weight"] = (hidden,)
    shapes["model.norm.weight"] = (hidden,)
    return {name: _one(name, size, draw) for name, size in shapes.items()}


def _one(name: str, size: tuple[int, ...], draw: torch.Generator) -> torch.Tensor:
    weight = torch.randn(size, generator=draw)
    if len(size) == 1:  # norms, stored as an offset from 1
        return weight * 0.3 + (1.0 if name.endswith(("q_norm.weight", "k_norm.weight")) else 0.0)
    return weight * (2 * size[1] ** -0.5 if "proj" in name else 0.005)
