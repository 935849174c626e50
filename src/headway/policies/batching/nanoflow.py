"""NanoFlow: throughput before all; a dense batch of fixed size, cut into nano-batches whose kernels overlap.

Decodes first, prompts fill the batch up. While the products of one nano-batch keep the processors busy, attention of
the other reads memory and its all-reduces use the network. A prompt starts only while the peak of KV, as outputs of
mean length would have it, stays within memory: preemptions cost throughput.

Source: Zhu et al., "NanoFlow: Towards Optimal Large Language Model Serving Throughput", OSDI 2025, with its published
code (batches of 768 to 2048 tokens). Differs: equal nano-batches in place of a searched schedule, and none in steps
below `least_tokens`, which lose more by reading weights twice. The end of an output is known at once: the published
loop forms the next batch before it knows, which hides its own time and wastes a token or two for each request. KV of
ended requests is not kept on the host. How the predicted peak is computed is not certain to be the paper's.
Cost: O(running) per step while requests wait; O(running log running) where KV is short.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field

from headway.core import InstanceView, Sequence, StepPlan
from headway.core.fleet import FINISHED_OK


@dataclass
class Nanoflow:
    """Options: tokens of the dense batch, nano-batches of a step (1: operators one after another), the fewest tokens of
    a step that is cut, output tokens expected before any request has ended, and the share of KV to plan with.
    """

    batch_tokens: int = 2048
    nano_batches: int = 2
    least_tokens: int = 512
    expected_output: int = 256
    kv_share: float = 0.98
    _ended: int = field(default=0, init=False, repr=False)
    _output: int = field(default=0, init=False, repr=False)  # tokens of all that have ended

    @property
    def needs(self) -> frozenset[str]:
        """Overlap, unless it is turned off."""
        return frozenset({"overlap"} if self.nano_batches > 1 else ())

    @property
    def step_tokens(self) -> int:
        """Most tokens one step computes."""
        return self.batch_tokens

    @property
    def logit_rows(self) -> int:
        """Every token of the batch may be a decode."""
        return self.batch_tokens

    def plan(self, view: InstanceView) -> StepPlan:
        """All decodes, and prompts up to the size of the batch."""
        room = view.free_blocks * view.block_tokens
        decodes = view.take_decodes(limit=self.batch_tokens)
        left = self.batch_tokens - view.taken_tokens
        chunks, refused = [], False
        if left and (view.prefilling or view.waiting):
            starters, refused = self._starters(view, room, left)
            most = len(view.running) + starters
            chunks = view.take_prefills(tokens=left, sequences=most)
        cut = view.taken_tokens >= self.least_tokens
        return StepPlan(
            {"main": decodes + chunks if chunks else decodes},
            steady=not refused,  # as others come closer to their end, the peak with it shrinks
            nano_batches=self.nano_batches if cut else 1,
        )

    def on_end(self, sequence: Sequence, outcome: str) -> None:
        """Learn how long outputs are."""
        if outcome == FINISHED_OK:
            self._ended += 1
            self._output += sequence.output_tokens

    def _starters(self, view: InstanceView, room: int, tokens: int) -> tuple[int, bool]:
        """How many waiting requests may start, in order: with them the predicted peak fits. Is the next refused?"""
        if not view.waiting:
            return 0, False
        mean = self._output // self._ended if self._ended else self.expected_output
        running, size = view.running, view.block_tokens
        limit = self.kv_share * (room + sum([len(s.blocks) for s in running]) * size)
        bound = sum([s.total_tokens for s in running]) + len(running) * (mean + size)
        started: list[Sequence] = []
        ranked: list[tuple[int, int]] = []
        for sequence in view.waiting:
            if tokens <= 0:
                break
            bound += sequence.total_tokens + mean + size
            if bound > limit:  # if all reached their length at once, it would not fit: look closer
                if not ranked:
                    ranked = sorted(_future(s, mean, size) for s in [*running, *started])
                insort(ranked, _future(sequence, mean, size))
                if len(ranked) > 1 and _peak(ranked) > limit:
                    return len(started), True
            started.append(sequence)
            tokens -= sequence.remaining_tokens
        return len(started), False


def _future(sequence: Sequence, mean: int, block_tokens: int) -> tuple[int, int]:
    """(output tokens that are still expected, KV tokens held now, a block of slack included)."""
    left = min(max(mean, sequence.output_tokens + 1), sequence.max_tokens) - sequence.output_tokens
    return -left, sequence.total_tokens + block_tokens


def _peak(sequences: list[tuple[int, int]]) -> int:
    """Most KV tokens ever held, when all grow together and each leaves after what it has left; longest first."""
    peak = held = 0
    for number, (left, tokens) in enumerate(sequences, 1):
        held += tokens
        peak = max(peak, held - number * left)
    return peak
