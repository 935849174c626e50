"""Dynamic SplitFuse: every forward pass computes the same number of tokens, where throughput saturates.

All decodes first; prompts are cut and combined so that the pass has exactly `forward_tokens` tokens.

Source: Holmes et al., "DeepSpeed-FastGen", arXiv 2401.08671, the Dynamic SplitFuse section.
Differs from Sarathi in the budget's meaning: a throughput target found on the saturation curve, not a latency
target. `forward_tokens=0` finds it: the fewest tokens with 95 % of the best predicted prefill throughput, or 768
(MII's ragged batch size; not certain to be the paper's) where no times are predicted.
Cost: O(running + started) per step; the search runs once.
"""

from dataclasses import dataclass, field

from headway.core import InstanceView, StepPlan
from headway.errors import MissingCapabilityError
from headway.policies.itl_budget import chunk_within

CANDIDATES = (128, 256, 384, 512, 640, 768, 1024, 1280, 1536, 2048, 3072, 4096)


@dataclass
class Splitfuse:
    """Options: tokens of a forward pass (0: find the knee), most sequences running at once, and an ITL target that
    makes passes shorter where it must (then the world has to predict step times).
    """

    forward_tokens: int = 0
    max_num_seqs: int = 512
    itl_target_ms: float | None = None
    saturation: float = 0.95
    _found: int = field(default=0, init=False, repr=False)

    @property
    def step_tokens(self) -> int:
        """Most tokens one step computes."""
        return max(self.forward_tokens or CANDIDATES[-1], self.max_num_seqs)

    def plan(self, view: InstanceView) -> StepPlan:
        """Decodes first, then prompts composed to fill the pass."""
        target = self.forward_tokens or self._found or self._find(view)
        decodes = view.take_decodes(limit=target)
        left = target - view.taken_tokens
        if self.itl_target_ms is not None and left and (view.prefilling or view.waiting):
            left = chunk_within(view, decodes, self.itl_target_ms, left)
        chunks = view.take_prefills(tokens=left, sequences=self.max_num_seqs) if left else []
        return StepPlan(
            {"main": decodes + chunks if chunks else decodes},
            steady=self.itl_target_ms is None or not chunks,
        )

    def _find(self, view: InstanceView) -> int:
        try:
            rates = {n: n / view.chunk_time_ns(n) for n in CANDIDATES if n <= view.step_tokens}
        except MissingCapabilityError:
            rates = {min(768, view.step_tokens): 1.0}
        best = max(rates.values())
        self._found = min(n for n, rate in rates.items() if rate >= self.saturation * best)
        return self._found
