"""Profiles as TOML files that people can read and change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from headway.errors import OptionError
from headway.timing.profile_model import Profile
from headway.timing.sheet_file import build_sheet, read_toml

_VERSION = 1


def load_profile(path: str | Path) -> Profile:
    """Read a profile.

    Raises:
        OptionError: no such file, malformed, of a later version, or with an impossible value.
    """
    table = read_toml(Path(path))
    version = table.pop("version", None)
    if version != _VERSION:
        raise OptionError(
            f"{path} is no profile of version {_VERSION} (version = {version!r}): "
            "make one with headway calibrate"
        )
    return build_sheet(Profile, table, str(path))


def save_profile(profile: Profile, path: str | Path) -> None:
    """Write a profile; what `load_profile` reads is equal to it.

    Raises:
        OptionError: the file cannot be written.
    """
    try:
        Path(path).write_text(profile_text(profile), encoding="utf-8")
    except OSError as error:
        raise OptionError(
            f"cannot write {path}: {error.strerror}: give a path in a writable folder"
        ) from error


def profile_text(profile: Profile) -> str:
    """The TOML of a profile."""
    plain = {"version": _VERSION} | asdict(profile)
    lines = ["# Measured step times of one instance, in nanoseconds; made by headway calibrate."]
    lines += _lines({k: v for k, v in plain.items() if not isinstance(v, dict)}, "")
    for name, table in plain.items():
        if isinstance(table, dict):
            lines += _lines(table, name)
    return "\n".join(lines) + "\n"


def _lines(table: Mapping[str, Any], name: str) -> list[str]:
    lines = ["", f"[{name}]"] if name else []
    inner = []
    for key, value in table.items():
        if isinstance(value, dict):
            inner += _lines(value, f"{name}.{key}")
        else:
            lines.append(f"{key} = {_value(value)}")
    return lines + inner


def _value(value: object) -> str:
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)  # strings, booleans and integers look the same
