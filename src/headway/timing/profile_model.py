"""Step times fitted to a run: a timing model whose few coefficients were measured, not looked up.

A step costs a base, a piecewise-linear function of its decodes and one of its prefill tokens, so much for each
chunk, for each token of context, for each pair of a prefill token with one it attends to, and for each row of the
output head; then the gap until the next step can begin. All slopes are at least 0, so that more work never
takes less time. `headway.api.calibrate` fits one; `timing.profile` keeps it as TOML.

`repeats=k` equals k calls as contexts grow, to the nanosecond: all that grows is counted in whole numbers, and
each duration is one float expression of them, rounded on its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass, field
from functools import cached_property

from headway.core import Step, Transfer, Work
from headway.errors import OptionError
from headway.timing.profile_shape import Shape, shape_of, shape_of_step

_MEMO_SIZE = 1 << 16


@dataclass(frozen=True)
class Pieces:
    """A piecewise-linear function through 0: slope i holds up to knee i, the last one from there on."""

    knees: tuple[int, ...] = ()
    slopes_ns: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        """Refuse what is no function of this kind."""
        if len(self.slopes_ns) != len(self.knees) + 1:
            raise OptionError(
                f"{len(self.knees)} knees need {len(self.knees) + 1} slopes, not {len(self.slopes_ns)}"
            )
        if list(self.knees) != sorted({*self.knees}) or min((*self.knees, 1)) < 1:
            raise OptionError(f"knees are {self.knees}: give ascending numbers above 0")
        if not all(0 <= slope < float("inf") for slope in self.slopes_ns):
            raise OptionError(f"slopes are {self.slopes_ns}: give numbers of at least 0")

    def at(self, count: int) -> float:
        """Nanoseconds at `count`."""
        total, below = 0.0, 0
        for knee, slope in zip(self.knees, self.slopes_ns, strict=False):
            if count <= knee:
                return total + (count - below) * slope
            total += (knee - below) * slope
            below = knee
        return total + (count - below) * self.slopes_ns[-1]

    def times(self, factor: float) -> Pieces:
        """The same function, `factor` times as large."""
        return Pieces(self.knees, tuple(slope * factor for slope in self.slopes_ns))


@dataclass(frozen=True)
class KindFit:
    """How well steps of one kind that the fit had not seen were predicted. Errors are relative."""

    steps: int
    mape: float
    p90: float
    bias: float  # predicted time / measured time - 1


@dataclass(frozen=True)
class Profile:
    """A timing model with measured coefficients. `model` and `device` say what was measured.

    `coarse`: fitted to requests as a client saw them, not to steps. `residuals` are quantiles of measured /
    predicted step times, evenly spaced; `drift` is the same ratio over successive parts of the run.
    """

    model: str
    device: str
    layers: int
    base_ns: float
    gap_ns: float = 0.0  # from a step's end to the next one's start, while there is work
    decodes: Pieces = Pieces()
    tokens: Pieces = Pieces()  # of prefill
    chunk_ns: float = 0.0
    context_ns: float = 0.0  # per token that a decode attends to
    pair_ns: float = 0.0
    row_ns: float = 0.0  # per row of the output head
    block_ns: float = 0.0  # per transferred block
    dtype: str = ""
    blocks: int = 0  # KV blocks of the instance that was measured; 0: unknown
    block_tokens: int = 16
    source: str = ""
    coarse: bool = False
    steps: int = 0
    most_decodes: int = 0  # in one step of the run: beyond, the last slope goes on
    most_tokens: int = 0
    residuals: tuple[float, ...] = ()
    drift: tuple[float, ...] = ()
    fit: Mapping[str, KindFit] = field(default_factory=dict)  # kind of step, or "all"

    def __post_init__(self) -> None:
        """Refuse what no machine could take."""
        if self.layers < 1:
            raise OptionError(f"a profile has {self.layers} layers: give at least 1")
        for name in (
            *("base_ns", "gap_ns", "chunk_ns", "context_ns", "pair_ns", "row_ns", "block_ns"),
        ):
            if not 0 <= getattr(self, name) < float("inf"):
                raise OptionError(
                    f"{name} of a profile is {getattr(self, name)}: give a number of at least 0"
                )

    def durations_ns(self, step: Step, repeats: int) -> list[int]:
        """Whole nanoseconds of each repeat, the gap after it included; at least 1."""
        for work in step.work[len(step.decodes) :]:
            if work.layers is not None:
                return self._layered_ns(step.work, repeats)
        shape, growth = shape_of_step(step)
        fixed_ns = self._fixed_ns(shape) + 0.5
        context, pairs = shape.decode_context, shape.chunk_pairs
        context_ns, pair_ns = self.context_ns, self.pair_ns
        durations = []
        for _ in range(repeats):
            duration = int(fixed_ns + context * context_ns + pairs * pair_ns)
            durations.append(duration if duration > 1 else 1)
            context += growth.decode_context
            pairs += growth.chunk_pairs
        return durations

    def shape_ns(self, shape: Shape) -> float:
        """The time of a step that need not exist, the gap after it included."""
        varying = shape.decode_context * self.context_ns + shape.chunk_pairs * self.pair_ns
        return self._fixed_ns(shape) + varying

    def chunk_time_ns(self, tokens: int, context_tokens: int) -> int:
        """One prefill chunk alone, the token sampled at its end included."""
        return max(1, int(self.shape_ns(shape_of([(tokens, context_tokens, 1)])) + 0.5))

    def transfer_ns(self, transfer: Transfer) -> int:
        """Linear in blocks."""
        return int(transfer.blocks * self.block_ns + 0.5)

    @cached_property
    def _memo(self) -> dict[tuple[int, int, int, int], float]:
        return {}

    def _fixed_ns(self, shape: Shape) -> float:
        """All that does not depend on contexts; batches come back with the same size."""
        key = (shape.decodes, shape.chunk_tokens, shape.chunks, shape.rows)
        known = self._memo.get(key)
        if known is None:
            known = self._layers_ns(shape) + shape.rows * self.row_ns + self.gap_ns
            if len(self._memo) >= _MEMO_SIZE:
                self._memo.clear()
            self._memo[key] = known
        return known

    def _layers_ns(self, shape: Shape) -> float:
        return (
            self.base_ns
            + self.decodes.at(shape.decodes)
            + self.tokens.at(shape.chunk_tokens)
            + shape.chunks * self.chunk_ns
        )

    def _layered_ns(self, works: Seq[Work], repeats: int) -> list[int]:
        """Works cover different layers: each run of layers with the same works is a part of a step."""
        parts: list[tuple[int, int, int, int, int, int]] = []
        rows = 0
        for work in works:
            sequence, (first, last) = work.sequence, work.layers or (0, self.layers)
            before = sequence.computed_tokens + sequence.pending_tokens
            end = sequence.total_tokens + sequence.pending_output
            if last == self.layers and before + work.tokens - work.draft_tokens >= end:
                rows += work.draft_tokens + 1
            padded = max(work.tokens, work.pad_to or 0)
            parts.append((first, last, padded, before, work.tokens, 0))
        edges = sorted({edge for part in parts for edge in part[:2]})
        durations = []
        for repeat in range(repeats):
            time_ns = rows * self.row_ns + self.gap_ns + 0.5
            for first, last in itertools.pairwise(edges):
                inside = [
                    (padded, before + repeat * tokens, 0)
                    for low, high, padded, before, tokens, _ in parts
                    if low <= first and last <= high
                ]
                if inside:
                    shape = shape_of(inside)
                    varying = (
                        shape.decode_context * self.context_ns + shape.chunk_pairs * self.pair_ns
                    )
                    time_ns += (last - first) / self.layers * (self._layers_ns(shape) + varying)
            durations.append(max(1, int(time_ns)))
        return durations
