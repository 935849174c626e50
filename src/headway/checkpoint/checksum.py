"""Whether files are still what they were when they were published.

Hashing a quarter of a gigabyte takes most of a second, so the verdict is kept, by path, size and time of
change, in the user's cache directory: a later start takes no time.
"""

from __future__ import annotations

import json
import os
import tempfile
from hashlib import sha256
from pathlib import Path

from headway.checkpoint.located import Located
from headway.errors import ModelFileError

_CHUNK_BYTES = 1 << 20
_MOST_KEPT = 100


def check_sums(model: Located, cache: Path | None = None) -> None:
    """Compare a model's bytes with its SHA-256, if it has one. Releases the interpreter: use a thread.

    Raises:
        ModelFileError: a file changed, or cannot be read.
    """
    if not model.sha256:
        return
    kept_in = cache or cache_directory() / "verified.json"
    try:
        state = _state(model)
        kept = _kept(kept_in)
        if kept.get(model.sha256) == state:
            return
        digest = sha256()
        for path in model.paths:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    digest.update(chunk)
    except OSError as error:
        raise ModelFileError(f"cannot read {model.name} ({error}): install it again") from error
    if digest.hexdigest() != model.sha256:
        raise ModelFileError(
            f"{model.name} has SHA-256 {digest.hexdigest()}, published was {model.sha256}: install it again"
        )
    kept.pop(model.sha256, None)
    _keep(kept_in, {**dict(list(kept.items())[-_MOST_KEPT:]), model.sha256: state})


def cache_directory() -> Path:
    """The folder of headway for what can be computed again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headway"


def _state(model: Located) -> list[list[str | int]]:
    return [[str(path), (found := path.stat()).st_size, found.st_mtime_ns] for path in model.paths]


def _kept(path: Path) -> dict[str, object]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _keep(path: Path, kept: dict[str, object]) -> None:
    """Write it whole or not at all; where nothing can be written, the next start hashes again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, delete=False, encoding="utf-8"
        ) as file:
            json.dump(kept, file)
        Path(file.name).replace(path)
    except OSError:
        return
