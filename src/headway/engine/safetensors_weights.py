"""Weights from a Hugging Face directory: `config.json` and one or more memory-mapped `*.safetensors`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from headway.engine.architecture import GEMMAS, Architecture
from headway.engine.architecture_json import config_from_json
from headway.engine.embedding import FileRows
from headway.engine.weights import LayerNames, Source, Weights, stack_layer
from headway.errors import ModelFileError

INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"
# Where classes of transformers, by age and modality, keep the language model.
PREFIXES = ("model.", "model.language_model.", "language_model.model.", "")
HEADS = ("lm_head.weight", "language_model.lm_head.weight", "model.lm_head.weight")
KINDS = ("F32", "BF16", "F16")
NORM_OFFSET = 1.0  # Gemma's norms multiply by 1 + w


def read_json(file: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        ModelFileError: it is not there or holds something else.
    """
    try:
        value = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ModelFileError(
            f"{file.parent} has no {file.name}: give a Hugging Face model directory or a .gguf file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{file} is not JSON ({error}): download it again") from error
    if not isinstance(value, dict):
        raise ModelFileError(f"{file} holds no JSON object: download it again")
    return value


def weights_from_safetensors(
    path: Path, dtype: torch.dtype = torch.float32
) -> tuple[Architecture, Weights]:
    """Load a model directory; its layers as they are read, rows of the embedding as steps need them.

    Raises:
        ModelFileError: another architecture, a truncated file, or a tensor missing or of another shape;
            for layers, when they are read.
    """
    config = config_from_json(read_json(path / "config.json"), str(path / "config.json"))
    shards = _Shards(path)
    prefix = next((p for p in PREFIXES if shards.has(f"{p}embed_tokens.weight")), PREFIXES[0])
    offset = NORM_OFFSET if config.family in GEMMAS else 0.0

    def matrix(name: str, shape: tuple[int, ...]) -> Tensor:
        return shards.read(name, shape).to(dtype)

    def norm(name: str, shape: tuple[int, ...]) -> Tensor:
        return shards.read(name, shape).to(torch.float32) + offset

    source = Source(matrix, norm, lambda rows, _heads: rows)
    table = (config.vocabulary, config.hidden)
    stored = shards.read(f"{prefix}embed_tokens.weight", table)

    def rows(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = stored[torch.from_numpy(ids)].float().numpy()
        return found

    head = next((name for name in HEADS if shards.has(name)), HEADS[0])
    return config, Weights(
        embedding=FileRows(rows, lambda: stored.to(dtype), dtype),
        final=norm(f"{prefix}norm.weight", (config.hidden,)),
        layers=(
            stack_layer(config, _names(prefix, index, post_norms=config.post_norms), source)
            for index in range(config.layers)
        ),
        head=None if config.tied else matrix(head, table),
    )


class _Shards:
    """The tensors of a directory; files are mapped when the first of their tensors is read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: dict[str, Any] = {}
        self._where = self._index() if (path / INDEX).exists() else self._search()

    def has(self, name: str) -> bool:
        return name in self._where

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Return a tensor, mapped rather than read where that is possible."""
        if name not in self._where:
            raise ModelFileError(
                f"{self._path} lacks tensor {name}: it is not a complete text model, download it again"
            )
        try:
            opened = self._opened(self._where[name])
            found = opened.get_slice(name)
            size, kind = tuple(found.get_shape()), found.get_dtype()
            if size != shape:
                raise ModelFileError(
                    f"{self._path}: tensor {name} is {size}, config.json implies {shape}:"
                    " the two belong to different models"
                )
            if kind not in KINDS:
                raise ModelFileError(
                    f"{self._path}: tensor {name} is {kind}, this engine reads {', '.join(KINDS)}:"
                    " give an unquantised checkpoint or a .gguf file"
                )
            tensor: Tensor = opened.get_tensor(name)
        except SafetensorError as error:
            raise ModelFileError(
                f"{self._path / self._where[name]}: tensor {name} cannot be read ({error}):"
                " download it again"
            ) from error
        return tensor

    def _opened(self, file: str) -> Any:
        """Map a file once; the header says how long it must be, and safetensors compares."""
        if file not in self._open:
            path = self._path / file
            try:
                self._open[file] = safe_open(path, framework="pt")
            except (SafetensorError, OSError) as error:
                raise ModelFileError(
                    f"{path} is missing, damaged or truncated ({error}): download it again"
                ) from error
        return self._open[file]

    def _index(self) -> Mapping[str, str]:
        where = read_json(self._path / INDEX).get("weight_map")
        if not isinstance(where, dict):
            raise ModelFileError(f"{self._path / INDEX} has no weight_map: download it again")
        for file in where.values():
            if not isinstance(file, str) or Path(file).name != file:
                raise ModelFileError(
                    f"{self._path / INDEX} names the shard {str(file)[:80]!r}: shards must lie beside it"
                )
        for file in sorted(set(where.values())):
            self._opened(file)  # so that a missing shard is known before minutes of loading
        return where

    def _search(self) -> Mapping[str, str]:
        whole = self._path / WHOLE
        files = [whole] if whole.exists() else sorted(self._path.glob("*.safetensors"))
        if not files:
            pickled = sorted(self._path.glob("*.bin")) + sorted(self._path.glob("*.pt*"))
            if pickled:
                raise ModelFileError(
                    f"{pickled[0]} is pickled, and loading it could run anything: convert the weights"
                    " to .safetensors with save_pretrained"
                )
            raise ModelFileError(
                f"{self._path} has no .safetensors file: convert the weights with save_pretrained"
            )
        where: dict[str, str] = {}
        for file in files:
            where |= dict.fromkeys(self._opened(file.name).keys(), file.name)
        return where


def _names(prefix: str, layer: int, *, post_norms: bool) -> LayerNames:
    def name(part: str) -> str:
        return f"{prefix}layers.{layer}.{part}"

    # Without norms behind attention, the norm before the MLP bears their name.
    before_ffn = "pre_feedforward_layernorm" if post_norms else "post_attention_layernorm"
    return LayerNames(
        before_attention=name("input_layernorm"),
        after_attention=name("post_attention_layernorm"),
        before_ffn=name(before_ffn),
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
