"""Find a model's sheet: bundled by name, or from a TOML sheet, a `config.json` or a model folder."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from headway.errors import UnknownNameError
from headway.timing.hf_config import from_hf_config
from headway.timing.model_sheet import ModelSheet
from headway.timing.sheet_file import BUNDLED, build_sheet, read_toml

_FOLDER = BUNDLED / "models"
_FILES = (".toml", ".json")
_SUFFIX = re.compile(
    r"-(instruct|chat|it|base|hf|pt|v0\.\d|\d+k|\d{4}|fp8|awq|gptq|int4|w4a16|gptq-int4|nvfp4|fp4|bf16)$"
)
_FAMILY = {
    "phi": "phi-2",
    "mistral": "mistral-7b",
    "mixtral": "mixtral-8x7b",
}  # name of a family alone
_STORED = {
    "fp8": "fp8",
    "awq": "int4",
    "gptq": "int4",
    "int4": "int4",
    "w4a16": "int4",
    "gptq-int4": "int4",
    "nvfp4": "fp4",
    "fp4": "fp4",
}


@cache
def model_names() -> tuple[str, ...]:
    """Names of the bundled sheets, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_model(name_or_path: str | Path, precision: str | None = None) -> ModelSheet:
    """Return the sheet of a path, or of a bundled name: any case, with or without owner and suffixes.

    `precision` replaces the weights' number format; without it, a suffix such as -FP8 or -AWQ counts.

    Raises:
        UnknownNameError: neither a bundled name nor an existing path; lists the nearest names.
        OptionError: a TOML sheet that is malformed.
        ModelFileError: a config that lacks a size.
    """
    sheet = _find(str(name_or_path))
    return sheet if precision is None or precision == sheet.precision else sheet.at(precision)


def _find(name: str) -> ModelSheet:
    path = Path(name)
    is_path = path.exists() and (path.is_absolute() or len(path.parts) > 1 or path.suffix in _FILES)
    if not is_path:
        found = _among_bundled(name)
        if found is not None:
            return found
        if not path.exists():
            raise UnknownNameError.among("model", name, model_names())
    if path.suffix == ".toml":
        return build_sheet(ModelSheet, {"name": path.stem} | read_toml(path), name)
    return from_hf_config(path)


def _among_bundled(name: str) -> ModelSheet | None:
    """Tuned and quantised repositories share the shape of their base model."""
    short, stored = name.lower().rsplit("/", 1)[-1], None
    short = short.replace("meta-llama-3", "llama-3")
    short = _FAMILY.get(short, short)
    while short not in model_names():
        suffix = _SUFFIX.search(short)
        if suffix is None:
            return None
        stored = _STORED.get(suffix[1], stored)
        short = short[: suffix.start()]
    sheet = _bundled(short)
    return sheet if stored in {None, sheet.precision} else sheet.at(str(stored))


@cache
def _bundled(name: str) -> ModelSheet:
    path = _FOLDER / f"{name}.toml"
    return build_sheet(ModelSheet, {"name": name} | read_toml(path), path.name)
