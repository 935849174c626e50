"""The sink that keeps what instances do: cheap while the run goes on, exact enough after it.

Cost: about 0.1 µs a work and a step (0.15 µs with several groups), 1.5 µs a request's end. Memory:
104 bytes a request, and up to about 1 MB of gaps and histogram for each of at most 64 groups,
however many tokens there are.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence as Seq

import numpy as np

from headway.core import Request, Sequence, Slo, Step, StepResult, Work, WorkDone
from headway.core.fleet import ABORTED, FAILED_STEP, FINISHED_OK, REJECTED, RETURNED, SHED
from headway.metrics.fairness import MOST_TENANTS, ServiceLag
from headway.metrics.gaps import GapRuns
from headway.metrics.histogram import Ints, LogHistogram
from headway.metrics.targets import Track, missed_targets

OUTCOMES = (FINISHED_OK, ABORTED, FAILED_STEP, SHED, RETURNED, REJECTED)
UNFINISHED = "unfinished"  # offered and not ended when the metrics were read

COLUMNS = (
    "group",
    "id",
    "arrival",
    "started",
    "first",
    "last",
    "end",
    "prompt",
    "cached",
    "output",
    "preemptions",
    "outcome",
    "missed",
)
"""Of `Recorder.rows()`, by ended request. Times in ns, -1 when it did not happen; `outcome` is a
code of `Recorder.outcomes`, `missed` a mask of `targets.TARGETS`, `group` an index of
`Recorder.groups`."""

_FOLD_GAPS = 1 << 16
_OWN_GAPS = 64  # groups with gaps of their own; later tenants share those of their class


class Group:
    """Requests of one SLO class and one tenant."""

    __slots__ = (
        "append",
        "append_all",
        "gaps",
        "index",
        "offered",
        "prompt_tokens",
        "slo_class",
        "started",
        "tenant",
        "waiting",
    )

    def __init__(self, index: int, slo_class: str, tenant: str, gaps: GapRuns) -> None:
        self.index = index
        self.slo_class = slo_class
        self.tenant = tenant
        self.gaps = gaps
        self.append = gaps.append
        self.append_all = gaps.append_all
        self.offered = 0
        self.waiting = 0  # offered, without a first token, not ended
        self.started = 0  # got a first token
        self.prompt_tokens = 0  # of those that got one


class Recorder:
    """Hears offers, tokens and ends of a run; `summarise` reads it, at any time.

    Tell it of every request with `on_offer` before anything else happens to it. One recorder may
    serve all instances of a fleet. Not thread-safe.
    """

    def __init__(self) -> None:
        self.groups: list[Group] = []
        self.outcomes: list[str] = list(OUTCOMES)
        self.slos: dict[str, Slo | None] = {}  # by class; None when its requests differ
        self.arrivals = array("q")  # of all offered requests, in order of offer
        self.last_token_ns = -1
        self.steps = 0  # of all instances; a leap counts each of its repeats
        self.lag = ServiceLag()
        self._rows = array("q")
        self._by_name: dict[tuple[str, str], Group] = {}
        self._shared: dict[str, GapRuns] = {}
        self._tenants: dict[
            str, list[Group]
        ] = {}  # at most MOST_TENANTS, those with gaps of their own
        self._codes = {name: code for code, name in enumerate(self.outcomes)}
        self._open: dict[int, Group] = {}
        self._tracks: dict[int, Track] = {}
        self._only: Group | None = None  # set while there is one group: no lookup by request
        self._unfolded = 0
        self._first_seen = False

    # --- the hot path ---------------------------------------------------------------------------

    def on_offer(self, request: Request) -> None:
        """A request arrived at the system, before admission."""
        slo = request.slo
        group = self._by_name.get((slo.name, request.tenant))
        if group is None:
            group = self._new_group(slo.name, request.tenant)
        if self.slos.setdefault(slo.name, slo) is not slo and self.slos[slo.name] != slo:
            self.slos[slo.name] = None
        group.offered += 1
        group.waiting += 1
        self._open[request.id] = group
        self.arrivals.append(request.arrival_ns)
        if slo.itl_p99_ns is not None or slo.late_permille is not None:
            self._tracks[request.id] = Track(slo)

    def on_tokens(self, step: Step, result: StepResult) -> None:
        """A step, or some repeats of one, landed; its sequences do not show it yet."""
        ends = result.ends_ns
        if not ends:
            return
        self.steps += len(ends)
        end = ends[-1]
        works, done = step.work, result.done
        only, decodes = self._only, step.decodes
        emitting = False
        if only is not None and decodes and done:
            # One group, and decodes have a token already: nothing to look up, nothing to ask.
            first_end = ends[0]
            only.append_all([first_end - s.last_token_ns for s in decodes])
            self._unfolded += len(decodes)
            if len(ends) > 1:
                only.gaps.add_run(ends, len(decodes))
                self._unfolded += len(ends)
            emitting = True
            head = len(decodes)
            works, done = (works[head:], done[head:]) if len(works) > head else ((), ())
        if works:
            if len(ends) > 1:
                emitting |= self._on_leap(works, done, ends)
            else:
                emitting |= self._on_step(works, done, end)
        if self._tracks:
            self._track(step, result)
        if emitting and end > self.last_token_ns:
            self.last_token_ns = end
        if self._first_seen:
            self._first_seen = False
            self._sample_lag(end)
        if self._unfolded > _FOLD_GAPS:
            self.fold()

    def on_end(
        self, request: Request, sequence: Sequence | None, outcome: str, now_ns: int
    ) -> None:
        """A request ended; `outcome` is its kind, or "kind: why"."""
        group = self._open.pop(request.id)  # KeyError: it was not offered, or ended twice
        track = self._tracks.pop(request.id, None) if self._tracks else None
        code = self._codes.get(outcome)
        if code is None:
            code = self._code(outcome)
        row: tuple[int, ...]
        if sequence is None:
            row = (
                group.index,
                request.id,
                request.arrival_ns,
                -1,
                -1,
                -1,
                now_ns,
                request.prompt_tokens,
                0,
                0,
                0,
            )
            missed = 0
            group.waiting -= 1
        else:
            first = sequence.first_token_ns
            row = (
                group.index,
                request.id,
                request.arrival_ns,
                sequence.started_ns,
                first,
                sequence.last_token_ns,
                now_ns,
                request.prompt_tokens,
                min(sequence.cached_tokens, request.prompt_tokens),
                sequence.output_tokens,
                sequence.preemptions,
            )
            missed = 0 if code else missed_targets(request, sequence, now_ns, track)
            if first < 0:
                group.waiting -= 1
        self._rows.extend((*row, code, missed))
        self._sample_lag(now_ns)

    # --- reading ----------------------------------------------------------------------------------

    def rows(self) -> Ints:
        """Ended requests, in order of their end: (requests, len(COLUMNS)), a copy."""
        return np.array(self._rows, np.int64).reshape(-1, len(COLUMNS))

    def fold(self) -> None:
        """Move recorded gaps into histograms; happens by itself when there are many."""
        for gaps in self._all_gaps():
            gaps.fold()
        self._unfolded = 0

    def itl(self, slo_class: str | None = None, tenant: str | None = None) -> LogHistogram | None:
        """Gaps between tokens, of one class or tenant if asked; None for a tenant who shares them."""
        wanted: dict[int, GapRuns] = {}
        for group in self.groups:
            if slo_class in (None, group.slo_class) and tenant in (None, group.tenant):
                if tenant is not None and group.gaps is self._shared.get(group.slo_class):
                    return None
                wanted[id(group.gaps)] = group.gaps
        return LogHistogram.merged(gaps.fold() for gaps in wanted.values())

    @property
    def offered(self) -> int:
        """Requests offered so far."""
        return len(self.arrivals)

    @property
    def emitted_tokens(self) -> int:
        """Output tokens so far, whatever became of their requests."""
        return sum(gaps.tokens for gaps in self._all_gaps()) + sum(
            group.started for group in self.groups
        )

    # --- the rest -----------------------------------------------------------------------------------

    def _on_step(self, works: Seq[Work], outcomes: Seq[WorkDone], end: int) -> bool:
        """Each work emitted what it emitted at `end`."""
        groups = self._open
        last = -2
        # Works and outcomes are read by position: a tuple's index is three times faster than its name.
        for work, done in zip(works, outcomes):  # noqa: B905 - outcomes are empty when the step failed
            if emitted := done[2]:
                sequence = work[0]
                last = sequence.last_token_ns
                if last >= 0:
                    groups[sequence.id].append(end - last)
                else:
                    self._on_first(sequence)
                if emitted > 1:
                    groups[sequence.id].gaps.zeros += emitted - 1
        self._unfolded += len(outcomes)
        return last != -2

    def _on_leap(self, works: Seq[Work], outcomes: Seq[WorkDone], ends: Seq[int]) -> bool:
        """Every emitting work emitted one token at each end: the inner gaps are the same for all."""
        first_end = ends[0]
        emitting: dict[Group, int] = {}
        for work, done in zip(works, outcomes, strict=True):
            if done[2]:
                sequence = work[0]
                group = self._open[sequence.id]
                emitting[group] = emitting.get(group, 0) + 1
                if sequence.last_token_ns >= 0:
                    group.append(first_end - sequence.last_token_ns)
                else:
                    self._on_first(sequence)
        if emitting:
            for group, count in emitting.items():
                group.gaps.add_run(ends, count)
            self._unfolded += len(outcomes) + len(ends) * len(emitting)
        return bool(emitting)

    def _on_first(self, sequence: Sequence) -> None:
        request = sequence.request
        group = self._open[request.id]
        group.waiting -= 1
        group.started += 1
        group.prompt_tokens += request.prompt_tokens
        self._first_seen = True

    def _track(self, step: Step, result: StepResult) -> None:
        tracks = self._tracks
        ends = result.ends_ns
        for work, done in zip(step.work, result.done):  # noqa: B905 - done is empty when the step failed
            if done.emitted:
                track = tracks.get(work.sequence.request.id)
                if track is not None:
                    track.on_units(work.sequence, ends, done.emitted)

    def _sample_lag(self, now_ns: int) -> None:
        if len(self._tenants) > 1 and self.lag.due(now_ns):
            tenants = self._tenants.values()
            served = [
                sum(g.gaps.tokens + g.started + g.prompt_tokens for g in groups)
                for groups in tenants
            ]
            self.lag.sample(
                now_ns, served, [any(g.waiting > 0 for g in groups) for groups in tenants]
            )

    def _new_group(self, slo_class: str, tenant: str) -> Group:
        own = len(self.groups) < _OWN_GAPS
        gaps = GapRuns() if own else self._shared.setdefault(slo_class, GapRuns())
        group = Group(len(self.groups), slo_class, tenant, gaps)
        if own and (tenant in self._tenants or len(self._tenants) < MOST_TENANTS):
            self._tenants.setdefault(tenant, []).append(group)
        self.groups.append(group)
        self._by_name[slo_class, tenant] = group
        self._only = group if len(self.groups) == 1 else None
        return group

    def _code(self, outcome: str) -> int:
        kind = outcome.partition(":")[0].strip()
        if kind not in self._codes:
            self._codes[kind] = len(self.outcomes)
            self.outcomes.append(kind)
        return self._codes[kind]

    def _all_gaps(self) -> Iterator[GapRuns]:
        for group in self.groups[:_OWN_GAPS]:
            yield group.gaps
        yield from self._shared.values()
