"""Draft two tokens for every decode; prompts are prefilled in chunks beside them."""

from dataclasses import dataclass
from typing import ClassVar

from headway.core import InstanceView, StepPlan


@dataclass
class Speculative:
    """Options: drafts a decode, token budget."""

    needs: ClassVar[frozenset[str]] = frozenset({"drafts"})
    draft_tokens: int = 2
    token_budget: int = 512

    def plan(self, view: InstanceView) -> StepPlan:
        """Decodes with drafts first, then chunks."""
        decodes = view.take_decodes(draft_tokens=self.draft_tokens)
        left = self.token_budget - sum(work.tokens for work in decodes)
        return StepPlan({"main": decodes + view.take_prefills(tokens=max(0, left))})
