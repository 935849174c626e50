"""Sarathi: chunked prefill that never stalls a decode.

Every running decode advances by one token; what is left of the token budget goes to prefill chunks, in order.

Source: Agrawal et al., "Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve", OSDI 2024.
Differs: the budget is an option, not derived from an ITL target; a prompt starts only when all of it fits.
Cost: O(running + started) per step.
"""

from dataclasses import dataclass

from headway.core import InstanceView, StepPlan


@dataclass
class Sarathi:
    """Options: the token budget of a step, and most sequences running at once."""

    token_budget: int = 512
    max_num_seqs: int = 256

    @property
    def step_tokens(self) -> int:
        """Most tokens one step computes."""
        return max(self.token_budget, self.max_num_seqs)

    def plan(self, view: InstanceView) -> StepPlan:
        """Decodes first, then chunks in what is left."""
        decodes = view.take_decodes(limit=self.token_budget)
        left = self.token_budget - view.taken_tokens
        chunks = view.take_prefills(tokens=left, sequences=self.max_num_seqs) if left else []
        return StepPlan({"main": decodes + chunks if chunks else decodes}, steady=True)
