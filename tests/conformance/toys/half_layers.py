"""Prefill each chunk in two steps, half of the layers each, while decodes run whole (after layered prefill)."""

from dataclasses import dataclass
from typing import ClassVar

from headway.core import InstanceView, Sequence, StepPlan, Work


@dataclass
class HalfLayers:
    """Option: tokens of a chunk."""

    needs: ClassVar[frozenset[str]] = frozenset({"layers"})
    chunk_tokens: int = 512

    def plan(self, view: InstanceView) -> StepPlan:
        """Every decode, and one chunk's next half."""
        works = list(view.take_decodes())
        for sequence in (*view.prefilling, *view.waiting[:1]):
            chunk = self._half(view, sequence)
            if chunk is not None:
                works.append(chunk)
                break
        return StepPlan({"main": works})

    def _half(self, view: InstanceView, sequence: Sequence) -> Work | None:
        if sequence.partial:
            return view.take(sequence, self.chunk_tokens)
        need = -(-sequence.total_tokens // view.block_tokens) - len(sequence.blocks)
        if need > view.free_blocks and sequence in view.waiting:
            if sequence.swapped:
                view.take(sequence, 1)
            return None
        return view.take(sequence, self.chunk_tokens, layers=(0, view.layers // 2))
