"""Sarathi: chunked prefill that never stalls a decode.

Every running decode advances by one token; what is left of the token budget goes to prefill chunks, in order.

Source: Agrawal et al., "Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve", OSDI 2024.
Differs: the budget is an option, or derived from an ITL target step by step instead of profiled once; a prompt starts
only when all of it fits.
Cost: O(running + started) per step.
"""

from dataclasses import dataclass

from headway.core import InstanceView, StepPlan
from headway.policies.itl_budget import chunk_within


@dataclass
class Sarathi:
    """Options: the token budget of a step, most sequences running at once, and an ITL target.

    With `itl_target_ms` a step takes only as many prompt tokens, up to the budget, as its prediction allows; a world
    that predicts nothing refuses.
    """

    token_budget: int = 512
    max_num_seqs: int = 256
    itl_target_ms: float | None = None

    @property
    def step_tokens(self) -> int:
        """Most tokens one step computes."""
        return max(self.token_budget, self.max_num_seqs)

    def plan(self, view: InstanceView) -> StepPlan:
        """Decodes first, then chunks in what is left."""
        decodes = view.take_decodes(limit=self.token_budget)
        left = self.token_budget - view.taken_tokens
        if self.itl_target_ms is not None and left and (view.prefilling or view.waiting):
            left = chunk_within(view, decodes, self.itl_target_ms, left)
        chunks = view.take_prefills(tokens=left, sequences=self.max_num_seqs) if left else []
        return StepPlan(
            {"main": decodes + chunks if chunks else decodes},
            steady=self.itl_target_ms is None or not chunks,
        )
