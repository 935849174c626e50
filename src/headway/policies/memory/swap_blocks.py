"""Swap block by block while everything waits: what FastSwitch is compared with.

Every block of every layer is a copy of its own, no lane starts a step until all have landed, and all of a sequence
moves each time. Between turns its KV goes to the host and back as well (`keeps_turns=False`: it is computed again,
where the prefix cache has lost it).

Source: vLLM 0.3.3 (Kwon et al., SOSP 2023) as the baseline of Shen et al., "FastSwitch", 2024. Differs: KV between
turns is kept here as there, but vLLM itself did not do so.
"""

from __future__ import annotations

from dataclasses import dataclass

from headway.core import InstanceView
from headway.policies.memory.fastswitch import FastSwitch


@dataclass
class SwapBlocks(FastSwitch):
    """FastSwitch with its three parts off."""

    group_blocks: int = 1
    incremental: bool = False

    def waits(self, view: InstanceView) -> bool:
        """Always."""
        del view
        return True
