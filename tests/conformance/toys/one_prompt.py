"""One prompt at a time beside all decodes; its annotations are strings, as many people's are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from headway.core import InstanceView, StepPlan


@dataclass
class OnePrompt:
    """Option: tokens of a chunk."""

    needs: ClassVar[frozenset[str]] = frozenset()
    chunk_tokens: int = 256

    def plan(self, view: InstanceView) -> StepPlan:
        """Decodes, and a chunk of who is being prefilled, else of who waits first."""
        decodes = view.take_decodes()
        room = None if view.prefilling else len(view.running) + 1
        chunks = view.take_prefills(tokens=self.chunk_tokens, sequences=room)
        return StepPlan({"main": decodes + chunks[:1]})
