"""Preempt by recompute: drop the KV of who comes last, and compute it again later.

Source: vLLM's default (Kwon et al., "PagedAttention", SOSP 2023).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from headway.core import InstanceView, Sequence


@dataclass
class Recompute:
    """Last in order first, until there is room."""

    def victims(
        self, view: InstanceView, blocks: int, candidates: Iterable[Sequence]
    ) -> Iterator[tuple[Sequence, str]]:
        """Give up whole sequences until `blocks` are free."""
        del view
        for sequence in candidates:
            if blocks <= 0:
                return
            blocks -= len(sequence.blocks)
            yield sequence, "recompute"
