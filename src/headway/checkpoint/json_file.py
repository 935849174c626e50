"""Read a JSON object from a file of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from headway.errors import ModelFileError


def read_object(path: Path, *, optional: bool = False) -> dict[str, Any]:
    """Return the object in `path`; empty if it is `optional` and not there.

    Raises:
        ModelFileError: missing, not JSON, or not an object.
    """
    if optional and not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"cannot read {path} ({error}): download the model again") from error
    if not isinstance(value, dict):
        raise ModelFileError(f"{path} holds no JSON object: download the model again")
    return value
