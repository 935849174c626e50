"""JITServe: places in the batch go to those whose promised tokens cost the least time, decided anew every so often.

A request's gain is what meeting its SLO is worth (its input, and `output_weight` for every token of a bound on its
output), and next to nothing once it can no longer be met; its density is the gain by the time it still needs. Siblings
of one workflow are one: their gains add up and the slowest counts. Every `interval` iterations the `pool_factor` x
`batch` of greatest density are sorted by length, and the window of `batch` neighbours with the greatest sum gets the
places; a few change hands in each iteration. In between it is chunked prefill, by density. The bound is a quantile of
ended requests of the same class, longer than what is out, so it sharpens as tokens come.

Source: JITServe (just-in-time serving with imprecise request information), with its published code: interval, weights,
bound and swaps. Differs: a TTFT that was missed takes the output's worth too (then the request attains nothing); time
includes the chunks of the prompt; `pool_factor` and `swaps` were not published; quantiles of classes in place of a
regression forest and of matched patterns of stages, so a stage's deadline comes with its requests. Who loses its place
is paused and keeps its KV, and a newcomer starts only in free blocks: the memory policy moves a paused one when
somebody before it in order needs room.
Cost: O(n log n) per interval and per plan with a newcomer, O(n) per plan, n = waiting + running; none while there is no
choice to make.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from headway.core import (
    NS_PER_MS,
    InstanceView,
    Sequence,
    Step,
    StepPlan,
    StepResult,
    Work,
)
from headway.policies.output_lengths import OutputLengths

WINDOWS = 10  # intervals whose iterations make the pace
FIRST_PACE_NS = 20.0 * NS_PER_MS


@dataclass
class Jitserve:
    """Options: a step's tokens and sequences, iterations between choices, size of the pool, places that change hands
    per iteration, level of the bound, how sharply lateness counts, worth of an input and of an output token, worth of
    requests without promises, and outputs before any has ended.
    """

    token_budget: int = 512
    batch: int = 64
    interval: int = 50
    pool_factor: float = 4.0
    swaps: int = 2
    quantile: float = 0.9
    sharpness: float = 100.0
    input_weight: float = 1.0
    output_weight: float = 8.0
    best_effort: float = 0.1
    expected_output: int = 256
    _lengths: OutputLengths = field(init=False, repr=False)
    _density: dict[int, float] = field(default_factory=dict, init=False, repr=False)
    _active: list[int] = field(default_factory=list, init=False, repr=False)  # request ids
    _wanted: set[int] = field(default_factory=set, init=False, repr=False)
    _due: int = field(default=0, init=False, repr=False)  # iterations until the next choice
    _ended_ns: int = field(default=0, init=False, repr=False)
    _window: tuple[int, int] = field(default=(0, 0), init=False, repr=False)  # iterations, ns
    _windows: deque[float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Start with what is expected."""
        self._lengths = OutputLengths(self.expected_output)
        self._windows = deque([FIRST_PACE_NS], maxlen=WINDOWS)

    @property
    def step_tokens(self) -> int:
        """Most tokens one step computes."""
        return max(self.token_budget, self.batch)

    def on_step(self, step: Step, result: StepResult) -> None:
        """Count iterations and their time."""
        del step
        count, spent_ns = self._window
        ends = result.ends_ns
        self._window = count + len(ends), spent_ns + ends[-1] - self._ended_ns
        self._ended_ns = ends[-1]
        self._due -= len(ends)

    def on_end(self, sequence: Sequence, outcome: str) -> None:
        """Learn how long outputs are."""
        self._lengths.learn(sequence, outcome)
        self._density.pop(sequence.id, None)

    def plan(self, view: InstanceView) -> StepPlan:
        """One step of those who have a place: their decodes, then their prompts by density."""
        self._ended_ns = max(self._ended_ns, view.now_ns)
        prompts = len(view.prefilling) + len(view.waiting)
        if prompts <= 1 and len(view.decoding) + prompts <= self.batch:
            self._due = 0  # choose as soon as there is a choice
            self._active = [sequence.id for sequence in view.running]
            return StepPlan({"main": self._in_order(view)}, steady=True)
        everybody = {sequence.id: sequence for sequence in (*view.running, *view.waiting)}
        if self._due <= 0:
            self._choose(view.now_ns, everybody)
        self._give_places(view.now_ns, everybody)
        active = [everybody[number] for number in self._active]
        return StepPlan({"main": self._take(view, active) or self._in_order(view)})

    def _in_order(self, view: InstanceView) -> list[Work]:
        """Everybody, as plain chunked prefill has it."""
        decodes = view.take_decodes(limit=self.token_budget)
        left = self.token_budget - view.taken_tokens
        return decodes + view.take_prefills(tokens=left) if left > 0 else decodes

    def _take(self, view: InstanceView, active: list[Sequence]) -> list[Work]:
        """Work for those who have a place."""
        decoding = [sequence for sequence in active if sequence.decodes]
        if len(decoding) == len(view.decoding):
            works = view.take_decodes(limit=self.token_budget)
        else:
            taken = [view.take(sequence, 1) for sequence in decoding[: self.token_budget]]
            works = [work for work in taken if work]
        density = self._density
        chunks = []
        prompts = [sequence for sequence in active if not sequence.decodes]
        for sequence in sorted(prompts, key=lambda one: (-density.get(one.id, 0.0), one.id)):
            left = self.token_budget - view.taken_tokens
            if left <= 0:
                break
            room = view.free_blocks * view.block_tokens
            starts = sequence.state == "waiting" and not sequence.swapped
            if starts and view.uncached_tokens(sequence) > room:
                continue  # a prompt starts only when all of it fits
            work = view.take(sequence, left)
            if work:
                chunks.append(work)
        return works + chunks

    # -- who has a place ---------------------------------------------------------------------------------------

    def _give_places(self, now_ns: int, everybody: dict[int, Sequence]) -> None:
        """Fill places that are free, then let a few change hands."""
        active = [number for number in self._active if number in everybody]
        self._active = active
        if len(active) == len(everybody):
            return
        density, wanted = self._density, self._wanted
        for number, sequence in everybody.items():
            if number not in density:
                density[number] = self._gain(now_ns, sequence) / self._left_ns(sequence)
        placed = set(active)
        outside = [number for number in active if number not in wanted]
        free = self.batch - len(active)
        if free <= 0 and not outside:
            return
        rest = [number for number in everybody if number not in placed]
        rest.sort(key=lambda number: (number not in wanted, -density[number], number))
        if free > 0:
            active += rest[:free]
            rest = rest[free:]
        outside.sort(key=lambda number: (density[number], number))
        inside = [number for number in rest if number in wanted]
        for leaves, enters in zip(outside[: self.swaps], inside, strict=False):
            active[active.index(leaves)] = enters

    def _choose(self, now_ns: int, everybody: dict[int, Sequence]) -> None:
        """Grouped margin goodput: whom the places should go to."""
        count, spent_ns = self._window
        if count:
            self._windows.append(spent_ns / count)
            self._window = (0, 0)
        self._due = self.interval
        self._density = density = self._densities(now_ns, everybody.values())
        pool = sorted(everybody, key=lambda number: (-density[number], number))
        pool = pool[: max(self.batch, round(self.pool_factor * self.batch))]
        pool.sort(key=lambda number: (everybody[number].total_tokens, number))
        best = total = sum(density[number] for number in pool[: self.batch])
        first = 0
        for last in range(self.batch, len(pool)):
            total += density[pool[last]] - density[pool[last - self.batch]]
            if total > best:
                best, first = total, last - self.batch + 1
        self._wanted = set(pool[first : first + self.batch])

    def _densities(self, now_ns: int, sequences: Iterable[Sequence]) -> dict[int, float]:
        """Gain by time left, by request id; siblings share theirs."""
        groups: dict[tuple[str, int], list[Sequence]] = {}
        for sequence in sequences:
            workflow = sequence.request.workflow
            key = ("request", sequence.id) if workflow is None else ("workflow", workflow)
            groups.setdefault(key, []).append(sequence)
        densities: dict[int, float] = {}
        for siblings in groups.values():
            gain = sum(self._gain(now_ns, sequence) for sequence in siblings)
            density = gain / max(self._left_ns(sequence) for sequence in siblings)
            for sequence in siblings:
                densities[sequence.id] = density
        return densities

    @property
    def _pace_ns(self) -> float:
        return sum(self._windows) / len(self._windows)

    def _left_ns(self, sequence: Sequence) -> float:
        """Time it still needs: an iteration for each chunk of input and each token of output."""
        bound = self._lengths.quantile(sequence, self.quantile)
        chunks = max(0, sequence.remaining_tokens - 1) // self.token_budget
        return self._pace_ns * (chunks + max(1, bound - sequence.output_tokens))

    def _gain(self, now_ns: int, sequence: Sequence) -> float:
        """What it is worth to go on with it: all, or next to nothing where its SLO will be missed."""
        request, slo = sequence.request, sequence.request.slo
        bound = self._lengths.quantile(sequence, self.quantile)
        finish_ns = now_ns - request.arrival_ns + self._left_ns(sequence)
        limits = [limit for limit in (slo.e2e_ns, slo.deadline_ns) if limit is not None]
        if slo.tpot_ns is not None:
            limits.append((slo.ttft_ns or 0) + slo.tpot_ns * max(1, bound - 1))
        intime = self._worth(min(limits), finish_ns) if limits else 1.0
        if slo.ttft_ns is not None:
            first_ns = now_ns + self._pace_ns
            if sequence.output_tokens:
                first_ns = sequence.first_token_ns
            late = max(1.0, first_ns - request.arrival_ns)
            first = self._worth(slo.ttft_ns, late)
        else:
            first = intime
        gain = self.input_weight * request.prompt_tokens * first
        gain += self.output_weight * bound * min(first, intime)
        return gain if slo.promises else gain * self.best_effort

    def _worth(self, limit_ns: float, time_ns: float) -> float:
        """1 in time, else less, the sharper the later."""
        return 1.0 if time_ns <= limit_ns else float((limit_ns / time_ns) ** self.sharpness)
