"""Static batching: a batch is filled, runs until its last member ends, and only then comes the next.

What serving looked like before iteration-level scheduling, and the control experiment of every system since (Yu et al.,
"Orca", OSDI 2022). A batch starts when it is full or `window_ms` after its first request came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from headway.core import NS_PER_MS, InstanceView, StepPlan


@dataclass
class StaticBatching:
    """Options: requests of a batch, how long a batch that is not full waits, and prompt tokens of a step."""

    waits: ClassVar[bool] = True  # for a batch to fill

    batch: int = 32
    window_ms: float = 50.0
    max_num_batched_tokens: int = 8192

    @property
    def step_tokens(self) -> int:
        """Most tokens one step computes."""
        return max(self.max_num_batched_tokens, self.batch)

    def plan(self, view: InstanceView) -> StepPlan:
        """Go on with the batch there is, or start one."""
        if not view.running and len(view.waiting) < self.batch:
            oldest_ns = min(sequence.request.arrival_ns for sequence in view.waiting)
            start_ns = oldest_ns + round(self.window_ms * NS_PER_MS)
            if view.now_ns < start_ns:
                return StepPlan(wake_at_ns=start_ns)
        begun = any(sequence.output_tokens for sequence in view.running)
        room = len(view.running) if begun else self.batch  # nobody joins a batch that decodes
        chunks = view.take_prefills(tokens=self.step_tokens, sequences=room)
        if chunks:
            return StepPlan({"main": chunks})
        return StepPlan({"main": view.take_decodes(limit=self.step_tokens)}, steady=True)
