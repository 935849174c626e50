"""semi-PD: prefill and decode side by side on one device, with parts of it that follow the SLOs.

Two lanes over one KV pool: a prompt that is computed goes on in the decode lane, nothing is copied. Parts are percent
of the device and may sum above 100: then the lanes compete. Every `window` steps the observed TTFT and TPOT
(quantiles of each over its own SLO) are looked at. When only one of them misses, its lane's part is raised, at 100 %
the other's is lowered, until the fit says that it will be met; when both miss, or none, nothing changes.

The fits are those of the paper: with x' = x / (x + y), TTFT = a / (x' - load) + b and TPOT = a / y' + b, through the
last windows. `load` is what the prompts of the window would need of the device: the busy time of their lane times x'.

Source: semi-PD (phase-wise disaggregated computation with unified storage, 2025). Its prose lets parts be when both
miss; its pseudo-code tests TTFT first: the prose is followed. Not in the paper, chosen: 50 steps a window, 5 % a
move, 6 moves at most, the fit's memory of 8 windows, and (100, 100) to start with, which leaves everything to the
hardware. Differs: a lane changes its part at its own next step, and no process has to be started for it. 1 / share
ignores that a decode is bound by memory.
Cost: O(works) per prefill step, O(decodes) per window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar

from headway.core import NS_PER_MS, InstanceView, Sequence, Step, StepPlan, StepResult, Work

PREFILL, DECODE = "prefill", "decode"
LEAST_LEFT = 0.02  # of the device, beyond the load: nearer, the queue's fit has a pole


@dataclass
class _Window:
    """What was seen since the last decision: TTFT and TPOT as parts of their SLOs."""

    began_ns: int = -1
    steps: int = 0
    busy_ns: int = 0  # of the prefill lane
    ttfts: list[float] = field(default_factory=list)
    tpots: list[float] = field(default_factory=list)


@dataclass
class SemiPd:
    """Options: the controller, parts to start with (percent), limits of a step, and SLOs for those promised none.

    `dynamic=False` keeps the parts as they are.
    """

    lanes: ClassVar[Mapping[str, int]] = MappingProxyType({PREFILL: 1, DECODE: 1})
    needs: ClassVar[frozenset[str]] = frozenset({"lanes"})

    window: int = 50
    step: int = 5
    most_moves: int = 6
    quantile: float = 0.9
    prefill_share: int = 100
    decode_share: int = 100
    dynamic: bool = True
    prefill_tokens: int = 1024
    max_num_seqs: int = 256
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    _seen: _Window = field(default_factory=_Window, init=False, repr=False)
    _prefill_began_ns: int = field(default=0, init=False, repr=False)
    _ttft_fit: deque[tuple[float, float]] = field(init=False, repr=False)
    _tpot_fit: deque[tuple[float, float]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """The fits remember a few windows."""
        self._ttft_fit, self._tpot_fit = deque(maxlen=8), deque(maxlen=8)

    @property
    def step_tokens(self) -> int:
        """Most tokens one step computes."""
        return max(self.prefill_tokens, self.max_num_seqs)

    def plan(self, view: InstanceView) -> StepPlan:
        """One token for every decode on one lane; prompts in order, in chunks, on the other."""
        work: dict[str, list[Work]] = {}
        if DECODE in view.idle_lanes:
            work[DECODE] = view.take_decodes(DECODE, limit=self.max_num_seqs)
        if PREFILL in view.idle_lanes:
            work[PREFILL] = view.take_prefills(
                PREFILL, tokens=self.prefill_tokens, sequences=self.max_num_seqs
            )
            self._prefill_began_ns = view.now_ns
        shares = {PREFILL: 10 * self.prefill_share, DECODE: 10 * self.decode_share}
        return StepPlan(work, shares)

    def on_step(self, step: Step, result: StepResult) -> None:
        """Note first tokens; at the end of a window also how fast the decodes go, and decide."""
        if not self.dynamic or not result.ends_ns:
            return
        seen, end_ns = self._seen, result.ends_ns[-1]
        if seen.began_ns < 0:
            seen.began_ns = end_ns
        seen.steps += len(result.ends_ns)
        if step.lane == PREFILL:
            seen.busy_ns += end_ns - max(self._prefill_began_ns, seen.began_ns)
            for work, done in zip(step.work, result.done, strict=False):
                if done.emitted and not work.sequence.output_tokens:
                    self._first_token(work.sequence, end_ns)
        if seen.steps >= self.window and end_ns > seen.began_ns:
            if step.lane == DECODE:
                for work in step.work:
                    self._pace(work.sequence)
            self._decide(end_ns)
            self._seen = _Window(end_ns)

    def on_end(self, sequence: Sequence, outcome: str) -> None:
        """Note how fast it was."""
        del outcome
        if self.dynamic:
            self._pace(sequence)

    def _first_token(self, sequence: Sequence, now_ns: int) -> None:
        target_ns = _target_ns(sequence.request.slo.ttft_ns, self.ttft_ms)
        if target_ns:
            self._seen.ttfts.append((now_ns - sequence.request.arrival_ns) / target_ns)

    def _pace(self, sequence: Sequence) -> None:
        target_ns = _target_ns(sequence.request.slo.tpot_ns, self.tpot_ms)
        gaps = sequence.output_tokens - 1
        if target_ns and gaps > 0:
            taken_ns = sequence.last_token_ns - sequence.first_token_ns
            self._seen.tpots.append(taken_ns / gaps / target_ns)

    def _decide(self, now_ns: int) -> None:
        seen = self._seen
        part = self.prefill_share / (self.prefill_share + self.decode_share)
        load = part * min(1.0, seen.busy_ns / (now_ns - seen.began_ns))
        ttft, tpot = (_quantile(values, self.quantile) for values in (seen.ttfts, seen.tpots))
        if ttft is not None:
            self._ttft_fit.append((1 / max(LEAST_LEFT, part - load), ttft))
        if tpot is not None:
            self._tpot_fit.append((1 / (1 - part), tpot))
        late, slow = ttft is not None and ttft > 1, tpot is not None and tpot > 1
        if late and not slow:
            self._raise_prefill(load)
        elif slow and not late:
            self._raise_decode()

    def _raise_prefill(self, load: float) -> None:
        a, b = _fit(self._ttft_fit)
        for _ in range(self.most_moves):
            x, y = _moved(self.prefill_share, self.decode_share, self.step)
            self.prefill_share, self.decode_share = x, y
            if a / max(LEAST_LEFT, x / (x + y) - load) + b <= 1:
                return

    def _raise_decode(self) -> None:
        a, b = _fit(self._tpot_fit)
        for _ in range(self.most_moves):
            y, x = _moved(self.decode_share, self.prefill_share, self.step)
            self.prefill_share, self.decode_share = x, y
            if a * (x + y) / y + b <= 1:
                return


def _moved(mine: int, other: int, step: int) -> tuple[int, int]:
    """Raise mine; at the cap, lower the other's, which keeps at least one move."""
    if mine < 100:
        return min(100, mine + step), other
    return mine, max(min(step, other), other - step)


def _target_ns(promised_ns: int | None, option_ms: float | None) -> float:
    if promised_ns is not None:
        return promised_ns
    return 0.0 if option_ms is None else option_ms * NS_PER_MS


def _quantile(values: list[float], quantile: float) -> float | None:
    if not values:
        return None
    return sorted(values)[min(len(values) - 1, int(quantile * len(values)))]


def _fit(points: deque[tuple[float, float]]) -> tuple[float, float]:
    """Least squares y = a u + b; through the origin and the last point when that falls, or has no slope."""
    count = len(points)
    mean_u, mean_y = (sum(point[axis] for point in points) / count for axis in (0, 1))
    spread = sum((u - mean_u) ** 2 for u, _ in points)
    if spread > 1e-9 * count:
        a = sum((u - mean_u) * (y - mean_y) for u, y in points) / spread
        if a > 0:
            return a, mean_y - a * mean_u
    u, y = points[-1]
    return y / u, 0.0
