"""FastSwitch: preemption that costs little, for orderings that change their mind.

Three parts, each an option. KV lies in extents of about `group_blocks` blocks, so that a sequence is a few large
copies instead of many small ones (`group_blocks=1`: block by block). The lanes go on while KV moves, as long as enough
sequences run to hide it (`asynchronous_from` huge: they always wait). Copies on the host stay true: what was there
before is not moved out again, and the KV of a turn stays for the next one (`incremental`, `keeps_turns`).

Source: Shen et al., "FastSwitch: Optimizing Context Switching Efficiency in Fairness-aware Large Language Model
Serving", 2024 (arXiv 2411.18424). Differs: the group's size and when a swap-in is worth waiting for are not given
there; here 32 blocks, and fewer than `asynchronous_from` running, of swaps out too. Meant for an ordering that
preempts (`rotating_priority`).
Cost: O(victims).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from headway.core import InstanceView, Sequence


@dataclass
class FastSwitch:
    """Options: the extents' size, from how many running on swaps are hidden, and what the host keeps, in blocks."""

    group_blocks: int = 32
    asynchronous_from: int = 4
    keeps_turns: bool = True
    incremental: bool = True
    kept_blocks: int = 30_000  # 60 GB of an 8B model's KV in 16 bits

    @property
    def needs(self) -> frozenset[str]:
        """Of the world."""
        copies = self.kept_blocks and (self.keeps_turns or self.incremental)
        return frozenset({"transfers", "copies"} if copies else {"transfers"})

    def waits(self, view: InstanceView) -> bool:
        """Is too little running to hide a swap behind?"""
        return len(view.running) < self.asynchronous_from

    def victims(
        self, view: InstanceView, blocks: int, candidates: Iterable[Sequence]
    ) -> Iterator[tuple[Sequence, str]]:
        """Last in order first, prompts half computed included: what was kept of a conversation is worth moving."""
        del view
        for sequence in candidates:
            if blocks <= 0:
                return
            blocks -= len(sequence.blocks)
            yield sequence, "swap_out" if sequence.computed_tokens else "recompute"
