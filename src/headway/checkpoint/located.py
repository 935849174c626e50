"""Where a model's files are, once found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Licence:
    """Terms that come with a model: their name, and the file or address to read them at."""

    name: str
    terms: str


@dataclass(frozen=True, slots=True)
class Located:
    """A model on disk: a directory, or the parts of one GGUF file in their order."""

    name: str
    paths: tuple[Path, ...]
    revision: str = ""  # the commit all files are from, if they came from a hub
    licence: Licence | None = None
    sha256: str = ""  # of the joined parts, where it is known beforehand

    @property
    def is_gguf(self) -> bool:
        """A GGUF file, not a directory."""
        return not self.paths[0].is_dir()

    @property
    def bytes(self) -> int:
        """Of all its files."""
        files = self.paths if self.is_gguf else [p for p in self.paths[0].rglob("*") if p.is_file()]
        return sum(path.stat().st_size for path in files)
