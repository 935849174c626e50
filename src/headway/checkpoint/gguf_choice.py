"""Which of several GGUF files is meant by a quantisation such as `Q4_K_M`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from headway.errors import ModelFileError, UnknownNameError

_SHARD = re.compile(r"-\d{5}-of-\d{5}\.gguf$")


def choose_gguf(files: Iterable[str], quantisation: str, where: str) -> str:
    """Return the one of the files that `quantisation` names; if that is empty, the only one.

    Raises:
        UnknownNameError: none or several; the message lists what there is.
        ModelFileError: it is split into several GGUF files.
    """
    models = sorted(
        file for file in files if file.lower().endswith(".gguf") and "mmproj" not in file.lower()
    )
    wanted = re.compile(rf"(?<![A-Z0-9]){re.escape(quantisation.upper())}(?![A-Z0-9_])")
    found = [file for file in models if not quantisation or wanted.search(file.upper())]
    if any(_SHARD.search(file) for file in found):
        raise ModelFileError(
            f"{found[0]} in {where} is one of several parts with headers of their own:"
            " join them with llama-gguf-split --merge"
        )
    if len(found) == 1:
        return found[0]
    if quantisation:
        raise UnknownNameError.among(f"quantisation in {where}", quantisation, found or models)
    raise UnknownNameError(
        f"{where} has {len(models)} GGUF files ({', '.join(models[:8])}):"
        " name one, as in org/repo:Q4_K_M"
    )
