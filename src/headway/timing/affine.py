"""Step times that are linear in the batch, for tests against queueing theory and for first estimates."""

from __future__ import annotations

from dataclasses import dataclass

from headway.core import Step, Transfer


@dataclass(frozen=True, slots=True)
class Constant:
    """Every step takes the same time: a server with deterministic service."""

    duration_ns: int
    layers: int = 1
    block_ns: int = 0  # per transferred block

    def durations_ns(self, step: Step, repeats: int) -> list[int]:
        """`duration_ns`, `repeats` times."""
        del step
        return [self.duration_ns] * repeats

    def chunk_time_ns(self, tokens: int, context_tokens: int) -> int:
        """`duration_ns`."""
        del tokens, context_tokens
        return self.duration_ns

    def transfer_ns(self, transfer: Transfer) -> int:
        """Linear in blocks."""
        return transfer.blocks * self.block_ns


@dataclass(frozen=True, slots=True)
class Affine:
    """A base, plus so much per computed token, per token of context, and per sequence. Integers: no rounding.

    A step whose works cover part of the layers costs that part of its tokens and contexts, rounded up.
    """

    base_ns: int
    token_ns: int = 0
    context_ns: int = 0
    sequence_ns: int = 0
    layers: int = 1
    block_ns: int = 0  # per transferred block
    extent_ns: int = 0  # per contiguous piece of a transfer

    def durations_ns(self, step: Step, repeats: int) -> list[int]:
        """Whole nanoseconds of each repeat."""
        fixed_ns = self.base_ns + self.sequence_ns * len(step.work)
        varying = growth = 0  # in nanoseconds times layers
        for work in step.work:
            first, last = work.layers or (0, self.layers)
            depth = last - first
            context = work.sequence.computed_tokens + work.sequence.pending_tokens
            tokens = max(work.tokens, work.pad_to or 0)
            varying += depth * (tokens * self.token_ns + context * self.context_ns)
            growth += depth * work.tokens * self.context_ns
        return [fixed_ns - -(varying + repeat * growth) // self.layers for repeat in range(repeats)]

    def chunk_time_ns(self, tokens: int, context_tokens: int) -> int:
        """One prefill chunk alone."""
        varying = tokens * self.token_ns + context_tokens * self.context_ns
        return self.base_ns + self.sequence_ns + varying

    def transfer_ns(self, transfer: Transfer) -> int:
        """Linear in blocks and extents."""
        return transfer.blocks * self.block_ns + transfer.extents * self.extent_ns
