"""Preempt by swap: move the KV of who comes last to the host, and bring it back later.

A prompt that is not decoding yet is dropped instead: its chunks are cheaper to compute again than to move.

Source: the swap option of vLLM (Kwon et al., SOSP 2023). Differs: asynchronous, so room comes a transfer later.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from headway.core import InstanceView, Sequence


@dataclass
class Swap:
    """Last in order first, until there will be room."""

    needs: ClassVar[frozenset[str]] = frozenset({"transfers"})

    def victims(
        self, view: InstanceView, blocks: int, candidates: Iterable[Sequence]
    ) -> Iterator[tuple[Sequence, str]]:
        """Send whole sequences away until `blocks` will be free."""
        del view
        for sequence in candidates:
            if blocks <= 0:
                return
            blocks -= len(sequence.blocks)
            yield sequence, "recompute" if sequence.in_prefill else "swap_out"
