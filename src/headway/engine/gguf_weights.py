"""Gemma-3 weights from a GGUF file, dequantised to fp32 tensor by tensor, two threads at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from headway.checkpoint.gguf_file import GgufFile
from headway.engine.architecture import Architecture
from headway.engine.weights import LayerNames, LayerWeights, Weights, stack_layer

LOADERS = 2  # numpy lets go of the interpreter; more would only hold more copies at once


def weights_from_gguf(file: GgufFile, config: Architecture) -> Weights:
    """Dequantise the whole model.

    Raises:
        ModelFileError: a tensor is missing, of another shape, or quantised in a way numpy cannot undo.
    """

    def load(name: str, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(file.dequantise(name, shape))

    def layer(index: int) -> LayerWeights:
        return stack_layer(config, _names(index), load, load)

    with ThreadPoolExecutor(LOADERS) as pool:
        layers = pool.map(layer, range(config.layers))
        embedding = load("token_embd.weight", (config.vocabulary, config.hidden))
        final = load("output_norm.weight", (config.hidden,))
        return Weights(embedding, final, tuple(layers))


def _names(layer: int) -> LayerNames:
    def name(part: str) -> str:
        return f"blk.{layer}.{part}.weight"

    return LayerNames(
        before_attention=name("attn_norm"),
        after_attention=name("post_attention_norm"),
        before_ffn=name("ffn_norm"),
        after_ffn=name("post_ffw_norm"),
        query=name("attn_q"),
        key=name("attn_k"),
        value=name("attn_v"),
        query_norm=name("attn_q_norm"),
        key_norm=name("attn_k_norm"),
        out=name("attn_output"),
        gate=name("ffn_gate"),
        up=name("ffn_up"),
        down=name("ffn_down"),
    )
