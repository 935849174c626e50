"""Two or more ways to serve, measured by turns on the same requests: what `live_policies.py` is made of.

Every way is a host of its own, all of them stay open, and one at a time is driven. In each round every way serves
the same workload, in an order that turns round from one to the next, so that a machine whose pace changes is
the same machine for all. What is compared is the ratio within a round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence as Seq
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import exp, inf, log, nan, sqrt
from statistics import mean, median, stdev

from _measuring import AT_LEAST, AT_MOST, say
from headway.core import Request, Sequence, Slo, Step, StepResult
from headway.core.fleet import FINISHED_OK
from headway.errors import HeadwayError
from headway.host import HostSpec, LiveFleet
from headway.metrics import Recorder, summarise
from headway.runtime import load_policy

NEVER_WORSE = "not worse"  # met unless the whole interval says worse
FEW = 10  # pairs, below which a ratio near 1 says nothing
NEAR = 1.10
# One-sided 95 % quantiles of Student's t by degrees of freedom, from any table; beyond, those of fewer.
_T = {
    1: 6.314, 2: 2.920, 3: 2.353, 4: 2.132, 5: 2.015, 6: 1.943, 7: 1.895, 8: 1.860, 9: 1.833,
    11: 1.796, 14: 1.761, 19: 1.729, 29: 1.699,
}  # fmt: skip


class Heard:
    """Implements `Sink`: when each token of each request came, and what the recorder makes of it."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.arrivals: dict[int, int] = {}
        self.times: dict[int, list[int]] = {}
        self.slos: dict[int, str] = {}
        self.preemptions: dict[int, int] = {}
        self.failed: list[str] = []

    def on_offer(self, request: Request) -> None:
        self.arrivals[request.id] = request.arrival_ns
        self.slos[request.id] = request.slo.name
        self.times[request.id] = []
        self.recorder.on_offer(request)

    def on_tokens(self, step: Step, result: StepResult) -> None:
        for work, done in zip(step.work, result.done, strict=True):
            self.times[work.sequence.id] += [result.ends_ns[-1]] * done.emitted
        self.recorder.on_tokens(step, result)

    def on_end(
        self, request: Request, sequence: Sequence | None, outcome: str, now_ns: int
    ) -> None:
        if outcome != FINISHED_OK:
            self.failed.append(f"request {request.id} did not finish: {outcome}")
        self.preemptions[request.id] = sequence.preemptions if sequence else 0
        self.recorder.on_end(request, sequence, outcome, now_ns)

    def in_order(self, name: str | None = None) -> list[int]:
        """Ids by arrival, of one SLO class if asked."""
        return sorted(i for i in self.times if name in (None, self.slos[i]))

    def ttft_ms(self, name: str | None = None) -> list[float]:
        return [(self.times[i][0] - self.arrivals[i]) / 1e6 for i in self.in_order(name)]

    def gaps_ms(self, name: str | None = None) -> list[float]:
        every = (self.times[i] for i in self.in_order(name))
        return [(b - a) / 1e6 for times in every for a, b in pairwise(times)]

    def tokens_per_s(self) -> float:
        """Tokens after the first ones, by the time from the first first token to the last."""
        every = list(self.times.values())
        took_ns = max(times[-1] for times in every) - min(times[0] for times in every)
        return sum(len(times) - 1 for times in every) / max(1, took_ns) * 1e9

    def mean_e2e_ms(self) -> float:
        """From arrival to the last token."""
        return mean((times[-1] - self.arrivals[i]) / 1e6 for i, times in self.times.items())

    def goodput(self) -> float:
        """Requests/s that attained their SLO; none count as half a one, for there to be a ratio."""
        told = summarise(self.recorder)
        return float(max(told["attained"], 0.5) / told["duration"])


def at_share(values: Seq[float], share: float) -> float:
    """Smallest value that so large a share does not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, max(0, -int(-share * len(ranked) // 1) - 1))]


@dataclass(frozen=True)
class Goal:
    """One line of the table: a ratio of two ways, and what it should be."""

    key: str
    what: str
    ours: str
    baseline: str
    goal: float
    bound: str  # AT_LEAST, AT_MOST or NEVER_WORSE


@dataclass(frozen=True)
class Trial:
    """Ways to serve by name, the workload of each round, and the number that is compared."""

    ways: Mapping[str, HostSpec]
    work: Callable[[int], list[Request]]
    metric: Callable[[Heard], float]
    unit: str
    goals: tuple[Goal, ...]
    pairs: int
    how: str


@dataclass
class Verdict:
    """What came of a goal. `ours` and `baseline` are medians, `ratio` the geometric mean of the rounds' ratios."""

    key: str
    what: str
    unit: str
    goal: float
    bound: str
    how: str
    ours: list[float] = field(default_factory=list)
    baseline: list[float] = field(default_factory=list)

    @property
    def pairs(self) -> int:
        return len(self.ours)

    @property
    def interval(self) -> tuple[float, float, float]:
        """Ratio and its 90 % interval: Student's t on the logarithms."""
        if not self.ours:
            return nan, nan, nan
        logs = [log(a / b) for a, b in zip(self.ours, self.baseline, strict=True)]
        free = len(logs) - 1
        half = inf
        if free:
            half = _T[max(known for known in _T if known <= free)] * stdev(logs) / sqrt(len(logs))
        high = inf if half == inf else exp(mean(logs) + half)
        return exp(mean(logs)), exp(mean(logs) - half), high

    @property
    def met(self) -> str:
        """Yes or NO where the whole interval says so, else what the ratio says, with a question mark."""
        ratio, low, high = self.interval
        if self.bound == NEVER_WORSE:
            return "yes" if high >= self.goal else "NO"
        better = ratio >= self.goal if self.bound == AT_LEAST else ratio <= self.goal
        sure = not low < self.goal < high
        return ("yes" if better else "NO") + ("" if sure else "?")

    @property
    def enough(self) -> bool:
        """A ratio near 1 needs more rounds than a large one."""
        ratio = self.interval[0]
        return self.pairs >= FEW or not 1 / NEAR < ratio < NEAR

    def told(self) -> dict[str, object]:
        """For JSON."""
        ratio, low, high = self.interval
        shown = high if high != inf else None
        return self.__dict__ | {
            "ratio": ratio,
            "interval_90": [low, shown],
            "met": self.met,
            "pairs": self.pairs,
            "enough_pairs": self.enough,
        }


class Ids:
    """Numbers that no request of this process had before."""

    def __init__(self) -> None:
        self._next = 0

    def renumbered(self, requests: Seq[Request]) -> list[Request]:
        """In order of arrival, as everything here expects of ids."""
        ordered = sorted(requests, key=lambda request: (request.arrival_ns, request.id))
        first, self._next = self._next, self._next + len(ordered)
        return [replace(request, id=first + n) for n, request in enumerate(ordered)]


IDS = Ids()


async def drive(live: LiveFleet, requests: Seq[Request]) -> Heard:
    """Serve a workload and wait for its end."""
    heard = Heard()
    await live.run(IDS.renumbered(requests), heard, on_offer=heard.on_offer)
    if heard.failed:
        raise HeadwayError(heard.failed[0])
    return heard


async def run_trial(
    trial: Trial, rounds: int, warm: Seq[Request], keys: Seq[str] = ()
) -> list[Verdict]:
    """All rounds of one trial, for the goals in `keys` (none: all); only ways that these need are started."""
    goals = [goal for goal in trial.goals if not keys or goal.key in keys]
    needed = list(dict.fromkeys(way for goal in goals for way in (goal.ours, goal.baseline)))
    measured: dict[str, list[float]] = {way: [] for way in needed}
    async with AsyncExitStack() as stack:
        fleets: dict[str, LiveFleet] = {}
        for way in needed:
            say(f"  starting {way}")
            fleets[way] = await stack.enter_async_context(fleet_of(trial.ways[way]))
            await drive(fleets[way], warm)
        for number in range(rounds):
            turn = number % len(needed)
            requests = trial.work(number)
            for way in needed[turn:] + needed[:turn]:
                value = trial.metric(await drive(fleets[way], requests))
                measured[way].append(value)
                say(f"  {number + 1}/{rounds} {way}: {value:.4g} {trial.unit}")
                await asyncio.sleep(0.1)
    return [
        Verdict(
            goal.key, goal.what, trial.unit, goal.goal, goal.bound, trial.how,
            measured[goal.ours], measured[goal.baseline],
        )
        for goal in goals
    ]  # fmt: skip


def fleet_of(spec: HostSpec) -> LiveFleet:
    """One host behind policies that let everything through."""
    return LiveFleet(
        spec, (load_policy("admission", "unbounded"), load_policy("routing", "round_robin"))
    )


def table(verdicts: Seq[Verdict]) -> str:
    """A line a goal, then how each was measured."""
    head = f"{'':4}{'what':46}{'ours':>9}{'baseline':>10}  {'unit':11}{'ratio':>6}"
    lines = [f"{head}{'90 % interval':>16}  {'goal':8}{'met':6}{'pairs':>5}"]
    signs = {AT_LEAST: "≥", AT_MOST: "≤", NEVER_WORSE: "not <"}
    for verdict in verdicts:
        ratio, low, high = verdict.interval
        goal = f"{signs[verdict.bound]} {verdict.goal:g}"
        lines.append(
            f"({verdict.key}) {verdict.what:46}{_short(median(verdict.ours)):>9}"
            f"{_short(median(verdict.baseline)):>10}  {verdict.unit:11}{ratio:>6.2f}"
            f"{f'{low:.2f} … {high:.2f}':>16}  {goal:8}{verdict.met:6}{verdict.pairs:>5}"
        )
        lines.append(f"      {verdict.how}")
        if not verdict.enough:
            lines.append(f"      a ratio this near 1 says nothing below {FEW} pairs")
    if any(verdict.met.endswith("?") for verdict in verdicts):
        lines.append("?: the goal lies within the interval")
    return "\n".join(lines)


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def promise(name: str, ttft_ms: float, tpot_ms: float | None = None) -> Slo:
    """Targets in milliseconds."""
    tpot_ns = None if tpot_ms is None else round(tpot_ms * 1e6)
    return Slo(name, ttft_ns=round(ttft_ms * 1e6), tpot_ns=tpot_ns)
