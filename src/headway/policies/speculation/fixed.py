"""Draft the same number of tokens always: what adaptive speculation is measured against.

Source: Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", ICML 2023.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from headway.core import InstanceView, Sequence


@dataclass
class FixedSpeculation:
    """Option: draft tokens of every decode."""

    needs: ClassVar[frozenset[str]] = frozenset({"drafts"})

    tokens: int = 3

    def drafts(self, view: InstanceView, decoding: Seq[Sequence]) -> int:
        """Say so many, whatever the load."""
        del view, decoding
        return self.tokens
