"""Gemma-3 weights from a Hugging Face directory: `config.json` and one or more `*.safetensors`."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from headway.engine.architecture import Architecture, config_from_json
from headway.engine.weights import LayerNames, Weights, stack_layer
from headway.errors import ModelFileError


def read_config(path: Path) -> dict[str, Any]:
    """Read `config.json` of a model directory."""
    file = path / "config.json"
    try:
        config = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        message = f"{path} has no config.json: give a Hugging Face model directory or a .gguf file"
        raise ModelFileError(message) from error
    except ValueError as error:
        message = f"{file} is not JSON ({error}): download it again"
        raise ModelFileError(message) from error
    if not isinstance(config, dict):
        message = f"{file} holds no JSON object: download it again"
        raise ModelFileError(message)
    return config


def weights_from_safetensors(path: Path) -> tuple[Architecture, Weights]:
    """Load a model directory in fp32.

    Raises:
        ModelFileError: another architecture, a truncated file, or a tensor missing or of another shape.
    """
    config = config_from_json(read_config(path), str(path / "config.json"))
    files = sorted(path.glob("*.safetensors"))
    if not files:
        message = f"{path} has no .safetensors file: convert the weights with save_pretrained"
        raise ModelFileError(message)
    with ExitStack() as stack:
        where: dict[str, Any] = {}
        for file in files:
            try:
                opened = stack.enter_context(safe_open(file, framework="pt"))
            except SafetensorError as error:
                message = f"{file} is damaged or truncated ({error}): download it again"
                raise ModelFileError(message) from error
            where |= dict.fromkeys(opened.keys(), opened)

        def load(name: str, shape: tuple[int, ...]) -> Tensor:
            if name not in where:
                message = f"{path} lacks tensor {name}: it is not a complete Gemma-3 text model"
                raise ModelFileError(message)
            tensor: Tensor = where[name].get_tensor(name)
            if tuple(tensor.shape) != shape:
                message = (
                    f"{path}: tensor {name} is {tuple(tensor.shape)}, config.json implies {shape}"
                )
                raise ModelFileError(message)
            return tensor.to(torch.float32)

        def norm(name: str, shape: tuple[int, ...]) -> Tensor:
            return load(name, shape) + 1.0

        return config, Weights(
            embedding=load("model.embed_tokens.weight", (config.vocabulary, config.hidden)),
            final=norm("model.norm.weight", (config.hidden,)),
            layers=tuple(stack_layer(config, _names(i), load, norm) for i in range(config.layers)),
        )


def _names(layer: int) -> LayerNames:
    def name(part: str) -> str:
        return f"model.layers.{layer}.{part}.weight"

    return LayerNames(
        before_attention=name("input_layernorm"),
        after_attention=name("post_attention_layernorm"),
        before_ffn=name("pre_feedforward_layernorm"),
        after_ffn=name("post_feedforward_layernorm"),
        query=name("self_attn.q_proj"),
        key=name("self_attn.k_proj"),
        value=name("self_attn.v_proj"),
        query_norm=name("self_attn.q_norm"),
        key_norm=name("self_attn.k_norm"),
        out=name("self_attn.o_proj"),
        gate=name("mlp.gate_proj"),
        up=name("mlp.up_proj"),
        down=name("mlp.down_proj"),
    )
