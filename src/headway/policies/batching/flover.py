"""Flover: one loop makes a token for everybody; a newcomer's prompt is computed beside it and joins at the next step.

The loop never stops for a prompt, and who ends leaves its row at once.

Source: Yao et al., "Flover: A Temporal Fusion Framework for Efficient Autoregressive Model Parallel Inference", HiPC
2023.
Differs: KV is paged here, so that a row that ends leaves no hole and nothing need be moved together; the paper
compacts a dense cache. Prompts of the side lane are computed whole, one step at a time, in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from headway.core import InstanceView, StepPlan, Work

LOOP, JOIN = "loop", "join"


@dataclass
class Flover:
    """Options: rows of the loop, and prompt tokens that may be on their way into it at once."""

    lanes: ClassVar[Mapping[str, int]] = MappingProxyType({LOOP: 1, JOIN: 1})
    needs: ClassVar[frozenset[str]] = frozenset({"lanes"})

    rows: int = 256
    join_tokens: int = 8192

    @property
    def step_tokens(self) -> int:
        """Most tokens one step computes."""
        return max(self.join_tokens, self.rows)

    def plan(self, view: InstanceView) -> StepPlan:
        """One token for every row; prompts on the other lane while rows are free."""
        work: dict[str, list[Work]] = {}
        if LOOP in view.idle_lanes:
            work[LOOP] = view.take_decodes(LOOP, limit=self.rows)
        if JOIN in view.idle_lanes:
            work[JOIN] = view.take_prefills(JOIN, tokens=self.join_tokens, sequences=self.rows)
        return StepPlan(work, steady=True)
