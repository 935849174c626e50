"""DualMap: two hashes give every prefix two instances; the one that knows more of it, unless its queue is too long.

The beginning of a request's prefix hashes to two instances. It goes to the one that was sent more of the prefix
before, while all that waits there can be computed within the TTFT SLO; else, and when both know as much, to the one
with fewer tokens to compute. So requests alike meet on two instances and not on one, which is enough to balance them.
`control=dualmap` adds the hotspot moves, and asks this object for what it knows.

Source: "DualMap: Enabling Both Cache Affinity and Load Balancing for Distributed LLM Serving".
Differs: what an instance keeps is estimated from what was sent there (`cache_tokens`), not asked; the SLO is the
request's own where it has one; the window of the hot-prefix tree and when it merges are uncertain in the paper.
Queues are prefill only, as in the paper: decodes are not counted.
Cost: O(extents of the prefix) and two hashes per request; per report O(what it lists).
"""

from collections.abc import Iterable, Sequence as Seq
from dataclasses import dataclass, field
from typing import ClassVar

from headway.core import NS_PER_S, FleetView, Request
from headway.core.fleet import Report
from headway.policies.hash_ring import HashRing
from headway.policies.hot_prefixes import HotPrefixes

_CHUNK_TOKENS = 2048  # of the step whose predicted pace is taken


@dataclass(slots=True)
class Placed:
    """A request that has not ended: where it may be, where it is, and what it had to compute there."""

    request: Request
    choices: tuple[str, ...]
    due_ns: int  # of its first token
    pace: float  # prompt tokens per ns
    instance: str = ""
    tokens: int = 0
    sent_ns: int = 0


@dataclass(slots=True)
class _Queue:
    """What one instance has to compute: as last reported, and what was sent since."""

    report: Report
    tokens: int = 0
    since: dict[int, int] = field(default_factory=dict)  # request -> tokens


class SentPrefixes:
    """Extents an instance should hold, of at most `most_tokens` (0: no limit), least recently used out first."""

    def __init__(self, most_tokens: int, most_extents: int) -> None:
        self._limits = (most_tokens or 1 << 62, most_extents)
        self._extents: dict[object, int] = {}
        self._tokens = 0

    def known(self, extents: Seq[tuple[object, int]]) -> int:
        """Tokens of the longest beginning that is there."""
        held, tokens = self._extents, 0
        for extent, size in extents:
            if extent not in held:
                break
            tokens += size
        return tokens

    def add(self, extents: Seq[tuple[object, int]]) -> None:
        """They were sent now; the deepest is forgotten first."""
        held = self._extents
        for extent, size in reversed(extents):
            self._tokens += size - held.pop(extent, 0)
            held[extent] = size
        most_tokens, most_extents = self._limits
        if self._tokens > most_tokens or len(held) > most_extents:
            goal = (most_tokens * 7 // 8, most_extents * 7 // 8)  # an eighth at once is cheaper
            for extent in list(held):
                if self._tokens <= goal[0] and len(held) <= goal[1]:
                    break
                self._tokens -= held.pop(extent)


@dataclass
class DualMap:
    """Options.

    `choices` per prefix, `depth` in extents, `window` in requests, `ttft_s` for requests without a TTFT SLO,
    `tokens_per_s` of prefill (0: predicted, 10,000 where nobody predicts), `cache_tokens` of an instance (0: no
    limit), `entries`: extents to remember of each, `points` of an instance on the ring.
    """

    choices: int = 2
    depth: int = 2
    window: int = 256
    ttft_s: float = 5.0
    tokens_per_s: float = 0.0
    points: int = 64
    cache_tokens: int = 0
    entries: int = 1_000_000
    reads_reports: ClassVar[bool] = True
    placed: dict[int, Placed] = field(default_factory=dict, init=False, repr=False)
    _queues: dict[str, _Queue] = field(default_factory=dict, init=False, repr=False)
    _sent: dict[str, SentPrefixes] = field(default_factory=dict, init=False, repr=False)
    _ring: HashRing | None = field(default=None, init=False, repr=False)
    _names: list[str] = field(default_factory=list, init=False, repr=False)
    _hot: HotPrefixes | None = field(default=None, init=False, repr=False)
    _now_ns: int = field(default=0, init=False, repr=False)

    def route(self, request: Request, view: FleetView) -> str:
        """Of two choices the one that knows more of the prefix, if in time; else the shorter queue."""
        names = self._choices_of(request, view)
        extents = _extents(request)
        self._now_ns = view.now_ns
        hits = {name: self._of(name).known(extents) for name in names}
        pending = {
            name: self.pending_tokens(name, view) + _left(request, hits[name]) for name in names
        }
        best = min(names, key=lambda name: (-hits[name], pending[name], view.load(name)))
        slo_ns, pace = self._slo_ns(request), self._pace(request, view)
        if pending[best] > slo_ns * pace:
            best = min(names, key=lambda name: (pending[name], view.load(name)))
        self.placed[request.id] = Placed(request, names, request.arrival_ns + slo_ns, pace)
        return best

    def on_place(self, request: Request, instance: str) -> None:
        """It was sent, or moved: count it there and nowhere else."""
        placed = self.placed.get(request.id)
        if placed is None:
            return
        self._forget(placed)
        placed.instance, placed.tokens = instance, self.tokens_left(request, instance)
        placed.sent_ns = self._now_ns
        extents = _extents(request)
        if request.next_extent is not None:
            extents.append((_named(request, request.next_extent), 0))
        self._of(instance).add(extents)
        if instance in self._queues:
            self._queues[instance].since[request.id] = placed.tokens

    def on_end(self, request: Request, outcome: str) -> None:
        """Forget it."""
        del outcome
        placed = self.placed.pop(request.id, None)
        if placed is not None:
            self._forget(placed)

    # -- what `control=dualmap` asks too -----------------------------------------------------------------------------

    def tell_time(self, now_ns: int) -> None:
        """What moves from now on arrives at this time: `on_place` is not told."""
        self._now_ns = now_ns

    def tokens_left(self, request: Request, instance: str) -> int:
        """What an instance would have to compute of a prompt."""
        return _left(request, self._of(instance).known(_extents(request)))

    def pending_tokens(self, instance: str, view: FleetView) -> int:
        """Prompt tokens to compute there: of the last report, less what is known to be cached, and sent since."""
        report = view.report(instance)
        queue = self._queues.get(instance)
        if queue is None or queue.report is not report:
            queue = self._queues[instance] = self._heard(instance, report, queue)
        return queue.tokens + sum(queue.since.values())

    def computing_tokens(self, report: Report) -> int:
        """What is left of prompts that an instance has begun (and of those too far back to be listed)."""
        return max(0, report.queued_tokens - sum([left for _, left in report.queued]))

    # -- the books -----------------------------------------------------------------------------------------------------

    def _slo_ns(self, request: Request) -> int:
        """Its own TTFT SLO, or the option's."""
        own = request.slo.ttft_ns
        return round(self.ttft_s * NS_PER_S) if own is None else own

    def _pace(self, request: Request, view: FleetView) -> float:
        """Prompt tokens per ns, halfway through a prompt like this one."""
        if self.tokens_per_s <= 0:
            step_ns = view.step_time_ns(_CHUNK_TOKENS, request.prompt_tokens // 2)
            if step_ns:
                return _CHUNK_TOKENS / step_ns
        return (self.tokens_per_s or 10_000.0) / NS_PER_S

    def _heard(self, instance: str, report: Report, before: _Queue | None) -> _Queue:
        """Count what a report lists; waiting prompts count without what was sent there before them."""
        queue = _Queue(report, self.computing_tokens(report))
        for request_id, left in report.queued:
            placed = self.placed.get(request_id)
            known = placed is not None and placed.instance == instance
            queue.tokens += min(left, placed.tokens) if placed and known else left
        known_ids: Iterable[int] = before.since if before else self.placed
        for request_id in known_ids:
            placed = self.placed.get(request_id)
            if placed and placed.instance == instance and placed.sent_ns > report.time_ns:
                queue.since[request_id] = placed.tokens
        return queue

    def _forget(self, placed: Placed) -> None:
        queue = self._queues.get(placed.instance)
        if queue is not None:
            queue.since.pop(placed.request.id, None)

    def _of(self, instance: str) -> SentPrefixes:
        sent = self._sent.get(instance)
        if sent is None:
            sent = self._sent[instance] = SentPrefixes(self.cache_tokens, self.entries)
        return sent

    def _choices_of(self, request: Request, view: FleetView) -> tuple[str, ...]:
        if self._ring is None or self._names != view.instances:
            self._names = list(view.instances)
            self._ring = HashRing(self._names, self.points)
        extents = [extent for extent, _ in _extents(request)]
        if not extents:
            return self._ring.choices(("request", request.id), self.choices)
        if self._hot is None:
            self._hot = HotPrefixes(self.depth, self.window)
        return self._ring.choices(self._hot.key(extents, 2 / len(self._names)), self.choices)


def _named(request: Request, extent_hash: int) -> object:
    return (request.tenant, extent_hash) if request.tenant else extent_hash


def _extents(request: Request) -> list[tuple[object, int]]:
    """Names apart by tenant, with their tokens."""
    if not request.tenant:
        return list(request.prefix)
    return [(_named(request, extent_hash), tokens) for extent_hash, tokens in request.prefix]


def _left(request: Request, hit: int) -> int:
    return max(1, request.prompt_tokens - hit)
