"""Write models into GGUF files the way llama.cpp's converter does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np

NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
Array = np.ndarray[Any, np.dtype[Any]]
Fill = Callable[[gguf.GGUFWriter], None]


def write_gguf(
    reference: Any,
    path: Path,
    *,
    architecture: str = "",
    skip: str = "",
    quantisation: str = "F32",
    also: Fill = lambda writer: None,
) -> Path:
    """Write a model the way llama.cpp's converter does; quantise its matrices where that is asked for."""
    config = reference.config
    kind = architecture or {"gemma3_text": "gemma3", "mistral": "llama"}.get(
        config.model_type, config.model_type
    )
    writer = gguf.GGUFWriter(path, kind)
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_size(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    ropes = config.rope_parameters
    writer.add_rope_freq_base(ropes.get("full_attention", ropes)["rope_theta"])
    if getattr(config, "sliding_window", None):
        writer.add_sliding_window(config.sliding_window)
    if getattr(config, "attn_logit_softcapping", None):
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"t{n}" for n in range(config.vocab_size)])
    writer.add_token_scores([0.0] * config.vocab_size)
    writer.add_token_types([gguf.TokenType.NORMAL] * config.vocab_size)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_add_space_prefix(value=False)
    also(writer)
    for name, tensor in tensors(reference, permuted=kind == "llama").items():
        if name != skip:
            add(writer, name, tensor, quantisation)
    return finish(writer, path)


def finish(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add(writer: gguf.GGUFWriter, name: str, tensor: Array, quantisation: str) -> None:
    kind = gguf.GGMLQuantizationType[quantisation]
    if tensor.ndim == 1 or quantisation == "F32":
        writer.add_tensor(name, np.ascontiguousarray(tensor))
    else:
        writer.add_tensor(name, gguf.quants.quantize(tensor, kind), raw_dtype=kind)


def head_size(config: Any) -> int:
    given: int | None = getattr(config, "head_dim", None)
    return given or config.hidden_size // config.num_attention_heads


def tensors(reference: Any, *, permuted: bool) -> dict[str, Array]:
    """Name them as llama.cpp does; Gemma's norms get their 1, Llama's rotated rows become neighbours."""
    config, found = reference.config, {}
    gemma = "gemma" in config.model_type
    for whole, weight in reference.named_parameters():
        name, array = whole.removeprefix("model."), weight.detach().numpy()
        if gemma and "norm" in name:
            array = array + 1
        if name.startswith("layers."):
            _, layer, rest = name.split(".", 2)
            part, ending = rest.rsplit(".", 1)
            if permuted and part.endswith(("q_proj", "k_proj")):
                key = part.endswith("k_proj")
                array = neighbours(
                    array, config.num_key_value_heads if key else config.num_attention_heads
                )
            there = NAMES[part]
            if part == "post_attention_layernorm" and not gemma:
                there = "ffn_norm"
            found[f"blk.{layer}.{there}.{ending}"] = array
        else:
            outer = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
            found[f"{outer[name.split('.')[0]]}.weight"] = array
    return found


def neighbours(rows: Array, heads: int) -> Array:
    """The two rows that turn together, half a head apart, come to lie side by side."""
    halves = rows.reshape(heads, 2, -1, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)
