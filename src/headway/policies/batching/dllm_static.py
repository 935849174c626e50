"""Diffusion models batched by number: the next `batch` requests, whatever their steps compute, and all logits at once.

What diffusion models were served with before there was a scheduler for them: memory is set aside for the logits of
every answer in the batch together, and a batch is closed until its last member ends (`closed`), or not.

Source: the phase-oblivious baseline of Fan et al., "Taming the Memory Footprint Crisis: System Design for Production
Diffusion LLM Serving" (2025). Requests of other models are batched in the same way, in steps of `step_tokens`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from headway.core import InstanceView, StepPlan


@dataclass
class DllmStatic:
    """Options: requests of a batch, longest prompt with answer, longest answer, and whether others may join."""

    denoises: ClassVar[bool] = True

    batch: int = 8
    request_tokens: int = 2048
    answer_tokens: int = 256
    closed: bool = True

    @property
    def step_tokens(self) -> int:
        """All of the batch, were it to refresh at once."""
        return self.batch * self.request_tokens

    @property
    def logit_rows(self) -> int:
        """Of all answers together."""
        return self.batch * self.answer_tokens

    def plan(self, view: InstanceView) -> StepPlan:
        """The whole batch; a new one when there is none."""
        room = len(view.running) if self.closed and view.running else self.batch
        decodes = view.take_decodes(limit=self.batch)
        left = self.step_tokens - view.taken_tokens
        chunks = view.take_prefills(tokens=left, sequences=room)
        return StepPlan({"main": decodes + chunks if chunks else decodes}, steady=True)
