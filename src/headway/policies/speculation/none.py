"""Draft nothing."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import ClassVar

from headway.core import InstanceView, Sequence


class NoSpeculation:
    """One token a step."""

    silent: ClassVar[bool] = True  # never asked

    def drafts(self, view: InstanceView, decoding: Seq[Sequence]) -> int:
        """Say none."""
        del view, decoding
        return 0
