"""Measured step times, changed: another device by the ratio of two rooflines, or with the run's own scatter."""

from __future__ import annotations

from collections.abc import Sequence as Seq

from headway.core import Step, Transfer
from headway.core.protocols import TimingModel
from headway.errors import OptionError

_MASK = (1 << 64) - 1
_PER_MILLION = 1_000_000


class Rescaled:
    """`timing`, each step times what `new` says of it over what `old` says of it.

    For a device or a model that was not measured: what was measured keeps its errors, and the ratio adds those
    of two datasheets.
    """

    def __init__(self, timing: TimingModel, old: TimingModel, new: TimingModel) -> None:
        self._timing, self._old, self._new = timing, old, new
        self.layers = timing.layers

    def durations_ns(self, step: Step, repeats: int) -> list[int]:
        """Whole nanoseconds of each repeat; at least 1."""
        each = zip(
            self._timing.durations_ns(step, repeats),
            self._old.durations_ns(step, repeats),
            self._new.durations_ns(step, repeats),
            strict=True,
        )
        return [max(1, time_ns * new // max(1, old)) for time_ns, old, new in each]

    def chunk_time_ns(self, tokens: int, context_tokens: int) -> int:
        """One prefill chunk alone."""
        time_ns, old, new = (
            timing.chunk_time_ns(tokens, context_tokens)
            for timing in (self._timing, self._old, self._new)
        )
        return max(1, time_ns * new // max(1, old))

    def transfer_ns(self, transfer: Transfer) -> int:
        """As the new device's sheet says: links are not what a profile measures."""
        return self._new.transfer_ns(transfer)


class Scattered:
    """`timing`, each step times a factor drawn from `residuals` (quantiles, evenly spaced), and times `scale`.

    Draws are a function of (seed, sequence, position) and never of a stream: two runs that compute the same
    token first in a step see the same factor, and leaping equals stepping.
    """

    def __init__(
        self, timing: TimingModel, residuals: Seq[float], *, scale: float = 1.0, seed: int = 0
    ) -> None:
        if not residuals or min(residuals) <= 0 or scale <= 0:
            raise OptionError(f"factors {list(residuals)} × {scale}: give numbers above 0")
        self._timing, self._seed = timing, seed
        self._factors = [round(_PER_MILLION * scale * ratio) for ratio in residuals]
        self.layers = timing.layers

    def durations_ns(self, step: Step, repeats: int) -> list[int]:
        """Whole nanoseconds of each repeat; at least 1."""
        durations = self._timing.durations_ns(step, repeats)
        if not step.work:
            return durations
        work = step.work[0]
        at = work.sequence.computed_tokens + work.sequence.pending_tokens
        seed = self._seed * 0x9E3779B97F4A7C15 + work.sequence.id * 0xBF58476D1CE4E5B9
        return [
            max(1, time_ns * self._factor(seed + at + repeat * work.tokens) // _PER_MILLION)
            for repeat, time_ns in enumerate(durations)
        ]

    def chunk_time_ns(self, tokens: int, context_tokens: int) -> int:
        """As predicted: what a policy is told has no scatter."""
        return self._timing.chunk_time_ns(tokens, context_tokens)

    def transfer_ns(self, transfer: Transfer) -> int:
        """As predicted."""
        return self._timing.transfer_ns(transfer)

    def _factor(self, position: int) -> int:
        """Between two quantiles, at a share that is a hash of the position."""
        mixed = position & _MASK
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        share = (mixed ^ (mixed >> 31)) >> 32  # 32 bits
        at = share * (len(self._factors) - 1)
        index, rest = at >> 32, at & 0xFFFFFFFF
        low = self._factors[index]
        high = self._factors[min(index + 1, len(self._factors) - 1)]
        return low + ((high - low) * rest >> 32)
