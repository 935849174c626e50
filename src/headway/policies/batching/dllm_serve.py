"""dLLM-Serve: diffusion models batched by what their next denoising step computes, not by their number.

A Refresh computes prompt and answer anew, a Reuse only the span (block) being denoised; cost(r) = len(r) or len(span).
Requests are packed in order until a step is full, and start when KV for prompt and answer is free. Logits are computed
`logit_rows` at a time, so that they fit where a layer's intermediates were; what that frees is KV. With
`refresh_tokens` a step takes only so many tokens of Refresh: whose turn it would be waits, and phases drift apart until
every step mixes heavy and light work.

Source: Fan et al., "Taming the Memory Footprint Crisis: System Design for Production Diffusion LLM Serving", 2025
(dLLM-Serve), with its published code: FCFS, nobody is skipped, 16,384 tokens, 512 sequences. The code staggers no
phases: putting a Refresh off is our way to, and 0 turns it off. Differs: the KV of all tokens is kept and attended to
(no head-centric sparsity). Requests of other models are batched as by Sarathi.
Cost: O(running + started) per step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from headway.core import InstanceView, StepPlan, Work
from headway.core.sequence import WAITING


@dataclass
class DllmServe:
    """Options: tokens and sequences of a step, tokens of Refresh in it (0: any), rows of logits held at once."""

    denoises: ClassVar[bool] = True

    max_num_batched_tokens: int = 16_384
    max_num_seqs: int = 512
    refresh_tokens: int = 4096
    logit_rows: int = 1024

    @property
    def step_tokens(self) -> int:
        """Most tokens one step computes."""
        return max(self.max_num_batched_tokens, self.max_num_seqs)

    def plan(self, view: InstanceView) -> StepPlan:
        """Decodes first, if any; then denoising steps and prompts in order."""
        decodes = view.take_decodes(limit=self.max_num_seqs)
        left = self.max_num_batched_tokens - view.taken_tokens
        if any(sequence.denoises for sequence in (*view.prefilling, *view.waiting[:1])):
            return StepPlan({"main": [*decodes, *self._packed(view, left)]})
        chunks = view.take_prefills(tokens=left, sequences=self.max_num_seqs) if left > 0 else []
        return StepPlan({"main": decodes + chunks if chunks else decodes}, steady=True)

    def _packed(self, view: InstanceView, left: int) -> list[Work]:
        """In order until the step is full; a Refresh beyond `refresh_tokens` is put off, and stays first in line."""
        works: list[Work] = []
        running, refreshed = len(view.running), 0
        most = self.refresh_tokens or self.max_num_batched_tokens
        for sequence in [*view.prefilling, *view.waiting]:
            starts = sequence.state == WAITING
            if left <= 0 or (starts and running >= self.max_num_seqs):
                break
            heavy = sequence.denoises and sequence.refreshes
            if heavy and refreshed and refreshed + sequence.total_tokens > most:
                if starts:
                    break
                continue
            work = view.take(sequence, left)
            if work is None:
                if sequence.swapped:
                    continue  # it is on its way back
                break
            works.append(work)
            left -= work.tokens
            running += starts
            refreshed += work.tokens if heavy else 0
        return works
