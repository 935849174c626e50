"""Llumnix: running requests move live from instances where somebody waits for memory to the freest ones.

Every period instances are compared by freeness, with *virtual usages*: the head of a queue counts with its whole
demand, and where a high-priority request lives, headroom counts as used. Those below the threshold are paired with the
freest above it, the worst with the best; each pair moves one request, of normal priority first, shortest first. An
instance that is being emptied counts as full. Scaling by the mean freeness is there and off, as in today's artifact.

Source: Sun et al., "Llumnix: Dynamic Scheduling for Large Language Model Serving", OSDI 2024, and its artifact
(thresholds of -3, 10 and 60 steps, 50 ms, 10 s).
Differs: a cool-down per request and per destination keeps the pairs from playing ping-pong; preemptions count since the
last tick; the headroom of high-priority requests, uncertain in the paper, is a share of an instance's blocks; scaling
retires and enlists the instances that are there instead of starting new ones.
Cost: O(instances · log instances + moved · 64) per tick.
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from headway.core import NS_PER_MS, NS_PER_S, Action, Enlist, FleetView, Migrate, Request, Retire
from headway.core.fleet import Report
from headway.errors import OptionError
from headway.policies.freeness import freeness

_FULL = -1e18  # freeness of an instance that is being emptied
_CHOICES = {"shortest": 1, "longest": -1, "newest": 0}  # reports list the last in order first


@dataclass
class Llumnix:
    """Options. Freeness is in steps, `headroom` a share of an instance's blocks.

    `balanced`: a pair only moves a request when that narrows the gap and leaves the destination above the threshold.
    `choice`: shortest | longest | newest.
    """

    period_ms: float = 50.0
    threshold: float = -3.0
    choice: str = "shortest"
    balanced: bool = False
    cool_down_ms: float = 500.0
    high_priority: str = ""  # name of an SLO class
    headroom: float = 0.2
    scale: bool = False
    scale_up_below: float = 10.0
    scale_down_above: float = 60.0
    scale_s: float = 10.0
    _high: dict[int, str] = field(default_factory=dict, init=False, repr=False)
    _preemptions: dict[str, int] = field(default_factory=dict, init=False, repr=False)
    _moved_ns: dict[int, int] = field(default_factory=dict, init=False, repr=False)
    _retired: list[str] = field(default_factory=list, init=False, repr=False)
    _scaled_ns: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the choice."""
        if self.choice not in _CHOICES:
            raise OptionError(f"choice is {self.choice!r}: use {', '.join(_CHOICES)}")

    @property
    def period_ns(self) -> int:
        """How often instances are compared."""
        return round(self.period_ms * NS_PER_MS)

    def on_place(self, request: Request, instance: str) -> None:
        """Remember where those of high priority live."""
        if self.high_priority and request.slo.name == self.high_priority:
            self._high[request.id] = instance

    def on_end(self, request: Request, outcome: str) -> None:
        """Forget it."""
        del outcome
        self._high.pop(request.id, None)
        self._moved_ns.pop(request.id, None)

    def tick(self, view: FleetView) -> Seq[Action]:
        """Scale, then pair."""
        actions: list[Action] = []
        favoured = set(self._high.values())
        free = {
            name: self._freeness(view.report(name), name in favoured) for name in view.instances
        }
        if self.scale and view.now_ns - self._scaled_ns >= self.scale_s * NS_PER_S:
            self._scaled_ns = view.now_ns
            actions += self._scaling(view, free)
        preempted = self._preempted(view)
        sources = [name for name in free if free[name] < self.threshold or name in preempted]
        sources += [name for name in self._retired if view.report(name).requests]
        targets = [
            name
            for name in free
            if free[name] > self.threshold and name not in preempted and name not in self._retired
        ]
        for name in self._retired:
            free[name] = _FULL
        sources.sort(key=lambda name: (free[name], name))
        targets.sort(key=lambda name: (-free[name], name))
        for source, target in zip(sources, targets, strict=False):
            actions += self._move(view, source, target, free)
        return actions

    def _freeness(self, report: Report, favoured: bool) -> float:
        reserved = self.headroom * report.total_blocks if favoured else 0.0
        more = 1 if report.waiting else 0
        lacking = report.head_blocks
        return freeness(report, lacking_blocks=lacking, more=more, reserved_blocks=reserved)

    def _preempted(self, view: FleetView) -> set[str]:
        """Who preempted somebody since the last tick."""
        known, found = self._preemptions, set()
        for name in view.instances:
            count = view.report(name).preemptions
            if count > known.get(name, 0):
                found.add(name)
            known[name] = count
        return found

    def _move(
        self, view: FleetView, source: str, target: str, free: dict[str, float]
    ) -> list[Action]:
        """One request of the pair, or a waiting one where an instance is emptied."""
        now_ns, cool_ns = view.now_ns, self.cool_down_ms * NS_PER_MS
        report, there = view.report(source), view.report(target)
        if source in self._retired and report.queued:
            return [Migrate(request_id, target) for request_id, _ in report.queued]
        ready = [
            item
            for item in report.movable
            if now_ns - self._moved_ns.get(item[0], -(1 << 62)) >= cool_ns
        ]
        if not ready:
            return []
        request_id, blocks = min(
            ready, key=lambda item: (item[0] in self._high, _CHOICES[self.choice] * item[1])
        )
        if self.balanced and source not in self._retired:
            before = free[target] - free[source]
            grown = (there.free_blocks - there.head_blocks - blocks) / (there.running + 1)
            shrunk = (report.free_blocks - report.head_blocks + blocks) / max(1, report.running - 1)
            if not (0 < grown - shrunk < before and grown > self.threshold):
                return []
        self._moved_ns[request_id] = now_ns
        return [Migrate(request_id, target)]

    def _scaling(self, view: FleetView, free: dict[str, float]) -> list[Action]:
        """One instance more or less; the emptiest is given up."""
        mean = sum(free.values()) / max(1, len(free))
        if mean < self.scale_up_below and self._retired:
            return [Enlist(self._retired.pop())]
        if mean > self.scale_down_above and len(free) > 1:
            name = min(free, key=lambda name: (view.load(name), name))
            self._retired.append(name)
            return [Retire(name)]
        return []
