"""Step times for tests: exact integers, odd on purpose, so that two ends coincide only when they should."""

from __future__ import annotations

from dataclasses import dataclass

from headway.core import Step, Transfer


@dataclass(frozen=True, slots=True)
class StepTimes:
    """A base, so much a computed token, a token of context and a sequence; all in nanoseconds.

    A step whose works cover part of the layers takes that part of its varying time. Defaults are near a 7B
    model on one large GPU.
    """

    base_ns: int = 9_500_003
    token_ns: int = 55_001
    context_ns: int = 83
    sequence_ns: int = 0
    layers: int = 8
    block_ns: int = 100_003

    def durations_ns(self, step: Step, repeats: int) -> list[int]:
        """Whole nanoseconds of each repeat: contexts grow by what was computed."""
        fixed_ns = self.base_ns + self.sequence_ns * len(step.work)
        varying = growth = 0  # nanoseconds times layers
        for work in step.work:
            first, last = work.layers or (0, self.layers)
            context = work.sequence.computed_tokens + work.sequence.pending_tokens
            tokens = max(work.tokens, work.pad_to or 0)
            varying += (last - first) * (tokens * self.token_ns + context * self.context_ns)
            growth += (last - first) * work.tokens * self.context_ns
        return [fixed_ns - -(varying + n * growth) // self.layers for n in range(repeats)]

    def transfer_ns(self, transfer: Transfer) -> int:
        """Linear in blocks."""
        return transfer.blocks * self.block_ns

    def chunk_time_ns(self, tokens: int, context_tokens: int) -> int:
        """One chunk alone."""
        varying = tokens * self.token_ns + context_tokens * self.context_ns
        return self.base_ns + self.sequence_ns + varying
