"""Sheets on disk: TOML tables that become frozen dataclasses, unknown keys refused."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from headway.errors import OptionError

BUNDLED = Path(__file__).parent
T = TypeVar("T")


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a file; OptionError names it when it is missing or malformed."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OptionError(f"cannot read sheet {str(path)!r}: {error}") from error


def build_sheet(kind: type[T], table: Mapping[str, object], source: str) -> T:
    """Make the dataclass `kind` of a table; nested tables become its nested dataclasses."""
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(table) - known)
    if unknown:
        raise OptionError(
            f"sheet {source!r} has unknown keys {', '.join(unknown)}: "
            f"known are {', '.join(sorted(known))}"
        )
    try:
        return msgspec.convert(dict(table), kind)
    except msgspec.ValidationError as error:
        raise OptionError(f"sheet {source!r}: {error}") from error
