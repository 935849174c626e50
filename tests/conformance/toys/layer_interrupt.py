"""Interrupt a long prefill between two layers when something much shorter arrives (after FlowPrefill)."""

from dataclasses import dataclass
from typing import ClassVar

from headway.core import InstanceView, StepPlan, Work


@dataclass
class LayerInterrupt:
    """Option: how many times shorter a newcomer must be."""

    needs: ClassVar[frozenset[str]] = frozenset({"layers"})
    ratio: int = 4
    step_tokens: int = 16_384

    def plan(self, view: InstanceView) -> StepPlan:
        """Prefill the shortest prompt first; decode when there is none."""
        prompts = [*view.prefilling, *view.waiting]
        for sequence in sorted(prompts, key=lambda s: (s.remaining_tokens, s.id)):
            whole = -(-sequence.total_tokens // view.block_tokens)
            if sequence in view.waiting and whole > view.free_blocks and view.running:
                continue
            work = view.take(sequence, view.step_tokens)
            if work is not None:
                return StepPlan({"main": [work]})
        return StepPlan({"main": view.take_decodes()}, steady=True)

    def on_event(self, view: InstanceView) -> dict[str, str]:
        """Stop a prefill when a much shorter prompt waits."""
        flying: list[Work] = list(view.in_flight("main"))
        least = min((s.remaining_tokens for s in view.waiting), default=0)
        if least and sum(work.tokens for work in flying) > self.ratio * least:
            return {"main": "layer"}
        return {}
