"""What a draft model costs beside its target: prompts computed twice, and one pass for each draft token.

Drafter and target share the devices and take turns. Draft tokens of a step are drafted before they are verified, in
as many passes as the longest draft has tokens; whoever wants fewer leaves earlier.

Source: Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", ICML 2023.
Differs: tokens that the drafter has not seen (those emitted while nothing was drafted) are taken to cost nothing more
than the first pass. Passes have no host work of their own: they are captured with the step. Layered steps cost the
drafter its prompt with the part that ends it.
Cost: that of the target's model, and for a step with drafts O(longest draft · drafting sequences).
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import replace

from headway.core import Step, Transfer, Work
from headway.timing.capacity import Capacity
from headway.timing.device_sheet import DeviceSheet
from headway.timing.model_sheet import ModelSheet
from headway.timing.roofline import Roofline


class Drafting:
    """A timing model: `target`, with drafts of `model` on the same `tp` devices."""

    prices_nano_batches = True

    def __init__(
        self, target: Roofline, model: ModelSheet, device: DeviceSheet, tp: int = 1
    ) -> None:
        silent = replace(device, step_ns=0, sequence_ns=0)
        self.target, self.layers = target, target.layers
        self.draft = Roofline(
            model, silent, tp, block_tokens=target.block_tokens, peer_link=target.peer_link
        )

    def durations_ns(self, step: Step, repeats: int) -> list[int]:
        """The target's, and the drafter's before it; a repeated step has no drafts."""
        times = self.target.durations_ns(step, repeats)
        others = step.work[len(step.decodes) :]
        prompts = [_whole(work) for work in others if self._is_prompt(work)]
        if prompts:
            more = self.draft.durations_ns(Step(step.id, step.lane, prompts), repeats)
            times = [time + other for time, other in zip(times, more, strict=True)]
        if any(work.draft_tokens for work in others):
            passes_ns = self._passes_ns(others)
            times = [time + passes_ns for time in times]
        return times

    def chunk_time_ns(self, tokens: int, context_tokens: int = 0) -> int:
        """Both models' chunk."""
        own_ns = self.draft.chunk_time_ns(tokens, context_tokens)
        return self.target.chunk_time_ns(tokens, context_tokens) + own_ns

    def transfer_ns(self, transfer: Transfer) -> int:
        """Both models' KV."""
        return self.target.transfer_ns(transfer) + self.draft.transfer_ns(transfer)

    def _is_prompt(self, work: Work) -> bool:
        ends = work.layers is None or work.layers[1] == self.layers
        return ends and not work.draft_tokens and not work.sequence.decodes

    def _passes_ns(self, works: Seq[Work]) -> int:
        drafting = sorted(
            (
                (work.draft_tokens, work.sequence.computed_tokens + work.sequence.pending_tokens)
                for work in works
                if work.draft_tokens
            ),
            reverse=True,
        )
        total_ns, count = 0, len(drafting)
        context = sum(tokens for _, tokens in drafting)
        for number in range(drafting[0][0]):
            while drafting[count - 1][0] <= number:
                count -= 1
                context -= drafting[count][1] + number
            total_ns += self.draft.step_ns(count, context)
            context += count
        return total_ns


def blocks_beside(capacity: Capacity, draft: ModelSheet, tp: int) -> int:
    """KV blocks that are left when the drafter's weights and its own KV share the target's memory."""
    bytes_left = capacity.kv_bytes - draft.weight_bytes / tp
    each = capacity.block_bytes + capacity.block_tokens * draft.kv_bytes_per_token(tp)
    return max(0, int(bytes_left // each))


def _whole(work: Work) -> Work:
    return work if work.layers is None else work._replace(layers=None)
