"""Prefill first: whole prompts before any decode.

A step is all prefill or all decode; decodes wait while prompts arrive, so TTFT is short and ITL has spikes as
long as a prefill.

Source: vLLM's scheduler before chunked prefill (Kwon et al., SOSP 2023), after Orca (Yu et al., OSDI 2022).
Differs: a prompt longer than the budget is cut instead of refused.
Cost: O(running + started) per step.
"""

from dataclasses import dataclass

from headway.core import InstanceView, StepPlan


@dataclass
class PrefillFirst:
    """Options: most prompt tokens in a step, and most sequences running at once."""

    max_num_batched_tokens: int = 4096
    max_num_seqs: int = 256

    @property
    def step_tokens(self) -> int:
        """Most tokens one step computes."""
        return max(self.max_num_batched_tokens, self.max_num_seqs)

    def plan(self, view: InstanceView) -> StepPlan:
        """Prompts while there are any, else every decode."""
        if view.prefilling or view.waiting:
            prompts = view.take_prefills(
                tokens=self.max_num_batched_tokens, sequences=self.max_num_seqs, whole=True
            )
            if prompts:
                return StepPlan({"main": prompts}, steady=True)
        return StepPlan({"main": view.take_decodes(limit=self.max_num_seqs)}, steady=True)
