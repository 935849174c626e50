"""The tokenizer of a Hugging Face directory: `tokenizer.json`, and what the files beside it say of BOS and stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Library

from headway.checkpoint.fast_tokenizer import FastTokenizer
from headway.checkpoint.json_file import read_object
from headway.errors import ModelFileError


def tokenizer_from_directory(folder: Path) -> FastTokenizer:
    """Read it.

    BOS is put in front where `add_bos_token` says so, and else where `tokenizer.json` does.

    Raises:
        ModelFileError: no `tokenizer.json` there, or one that cannot be read or streamed.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelFileError(
            f"{folder} has no tokenizer.json: write one with save_pretrained of a current transformers"
        )
    try:
        library = Library.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise ModelFileError(f"{path} cannot be read ({error}): download it again") from error
    library.no_truncation()
    library.no_padding()
    settings = read_object(folder / "tokenizer_config.json", optional=True)
    config = read_object(folder / "config.json", optional=True)
    bos = library.token_to_id(special_text(settings, "bos_token"))
    if bos is None and isinstance(config.get("bos_token_id"), int):
        bos = config["bos_token_id"]
    return FastTokenizer(
        library,
        str(folder),
        bos=bos,
        prefix=_prefix(library, settings, bos),
        stops=_stops(folder, library, settings, config),
    )


def special_text(settings: dict[str, Any], name: str) -> str:
    """Return a special token of `tokenizer_config.json`, written as a string or as an object; empty if none."""
    value = settings.get(name)
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""


def _prefix(library: Library, settings: dict[str, Any], bos: int | None) -> list[int]:
    said = settings.get("add_bos_token")
    if isinstance(said, bool):
        return [bos] if said and bos is not None else []
    plain = library.encode("a", add_special_tokens=False).ids
    whole = library.encode("a", add_special_tokens=True).ids
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return list(whole[:start])
    return []


def _stops(
    folder: Path, library: Library, settings: dict[str, Any], config: dict[str, Any]
) -> frozenset[int]:
    stops = {library.token_to_id(special_text(settings, "eos_token"))}
    for source in (config, read_object(folder / "generation_config.json", optional=True)):
        said = source.get("eos_token_id")
        stops.update(said if isinstance(said, list) else [said])
    return frozenset(stop for stop in stops if isinstance(stop, int))
