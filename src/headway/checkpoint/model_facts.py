"""What is known of a model before it is loaded: its sizes, read off headers; weights are not touched."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headway.checkpoint.gguf_file import GgufFile
from headway.checkpoint.json_file import read_object
from headway.errors import ModelFileError

_MOST_HEADER_BYTES = 100 << 20  # as the safetensors format limits it


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Sizes that decide what fits. `weights_bytes` is as stored, by kind of number."""

    architecture: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    context_tokens: int
    vocabulary: int
    parameters: int
    weights_bytes: Mapping[str, int]
    kv_numbers_per_token: int  # of all layers together; sliding windows need less in long contexts

    @property
    def stored_bytes(self) -> int:
        """All weights as stored."""
        return sum(self.weights_bytes.values())

    def kv_bytes_per_token(self, number_bytes: int) -> int:
        """KV memory a token takes in all layers, at 2 or 4 bytes a number."""
        return self.kv_numbers_per_token * number_bytes


def facts_from_gguf(file: GgufFile) -> ModelFacts:
    """Read them off the metadata and the list of tensors.

    Raises:
        ModelFileError: a size is missing.
    """
    architecture = file.text("general.architecture")

    def size(key: str, default: float | None = None) -> int:
        return int(file.number(f"{architecture}.{key}", default))

    layers, hidden, heads = size("block_count"), size("embedding_length"), 0
    said = file.metadata.get(f"{architecture}.attention.head_count")
    heads = int(np.max(said)) if isinstance(said, np.ndarray) else size("attention.head_count")
    per_layer = file.metadata.get(f"{architecture}.attention.head_count_kv")
    if isinstance(per_layer, np.ndarray):
        kv_heads, all_kv_heads = int(per_layer.max()), int(per_layer.sum())
    else:
        kv_heads = size("attention.head_count_kv", heads)
        all_kv_heads = layers * kv_heads
    key = size("attention.key_length", hidden // max(1, heads))
    value = size("attention.value_length", key)
    weights: Counter[str] = Counter()
    for tensor in file.tensors.values():
        weights[tensor.kind.name] += tensor.size
    embedding = file.tensors.get("token_embd.weight")
    tokens = file.metadata.get("tokenizer.ggml.tokens")
    return ModelFacts(
        architecture=architecture,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_size=key,
        context_tokens=size("context_length"),
        vocabulary=embedding.shape[0] if embedding else len(tokens or ()),  # type: ignore[arg-type]
        parameters=sum(math.prod(tensor.shape) for tensor in file.tensors.values()),
        weights_bytes=dict(weights),
        kv_numbers_per_token=all_kv_heads * (key + value),
    )


def facts_from_directory(folder: Path) -> ModelFacts:
    """Read them off `config.json` and the headers of the safetensors files.

    Raises:
        ModelFileError: a file is missing or damaged, or a size is missing.
    """
    outer = read_object(folder / "config.json")
    inner = outer.get("text_config")
    config = {**outer, **inner} if isinstance(inner, dict) else outer
    tensors = list(_tensors(sorted(folder.glob("*.safetensors"))))
    if not tensors:
        raise ModelFileError(f"{folder} has no .safetensors file: pickled weights are not read")

    def size(*names: str, default: int | None = None) -> int:
        said = [config[name] for name in names if isinstance(config.get(name), int)]
        if not said and default is None:
            raise ModelFileError(
                f"{folder}/config.json has no {names[0]}: not a language model we know"
            )
        return int(said[0] if said else default or 0)

    layers = size("num_hidden_layers", "n_layer", "n_layers")
    hidden = size("hidden_size", "n_embd", "d_model")
    heads = size("num_attention_heads", "n_head")
    kv_heads = size("num_key_value_heads", default=heads)
    head_size = size("head_dim", default=hidden // max(1, heads))
    latent = size("kv_lora_rank", default=0)  # DeepSeek: one latent and the rotated key, not heads
    per_layer = latent + size("qk_rope_head_dim", default=0) if latent else 2 * kv_heads * head_size
    weights: Counter[str] = Counter()
    for kind, _, stored in tensors:
        weights[kind] += stored
    return ModelFacts(
        architecture=str(config.get("model_type", "")),
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        context_tokens=size("max_position_embeddings", "n_positions", "max_seq_len", default=2048),
        vocabulary=size("vocab_size"),
        parameters=sum(count for _, count, _ in tensors),
        weights_bytes=dict(weights),
        kv_numbers_per_token=layers * per_layer,
    )


def _tensors(files: Iterable[Path]) -> Iterable[tuple[str, int, int]]:
    """(kind of number, count of numbers, bytes) of every tensor."""
    for path in files:
        header = _header(path)
        try:
            for name, entry in header.items():
                if name != "__metadata__":
                    start, stop = entry["data_offsets"]
                    yield str(entry["dtype"]), math.prod(entry["shape"]), stop - start
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelFileError(f"{path} has a damaged header: download it again") from error


def _header(path: Path) -> dict[str, Any]:
    """Read what a safetensors file begins with: eight bytes of length and JSON."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= min(_MOST_HEADER_BYTES, path.stat().st_size - 8):
            raise ModelFileError(f"{path} is truncated or no safetensors file: download it again")
        try:
            header = json.loads(file.read(size))
        except (ValueError, RecursionError) as error:
            raise ModelFileError(f"{path} has a damaged header: download it again") from error
    if not isinstance(header, dict):
        raise ModelFileError(f"{path} has a damaged header: download it again")
    return header
