"""A sink that writes down what a run did, and refuses what no run may do."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import NamedTuple

from headway.core.fleet import FINISHED_OK
from headway.core.plan import INTERRUPTED, Step, StepResult
from headway.core.protocols import WAKE
from headway.core.request import Request
from headway.core.sequence import FINISHED, Sequence
from headway.runtime.instance import Instance
from headway.testing.audit import audit

_LAST = 1 << 60  # key of an event that runs after all others of its time


class LoggedStep(NamedTuple):
    """A step, or some repeats of one, as it landed."""

    lane: str
    status: str
    members: int
    tokens: int  # of one repeat
    ends_ns: tuple[int, ...]


class Log:
    """Implements `Sink`. With `audited`, the books of every instance are audited after each step.

    Raises AssertionError at once: a token before its request's arrival or before the token before it, tokens
    after the end, a second end, a step over the budget.
    """

    def __init__(self, *, audited: bool = False) -> None:
        self.times_ns: defaultdict[int, list[int]] = defaultdict(list)  # of output tokens
        self.ids: defaultdict[int, list[int]] = defaultdict(list)
        self.computed: defaultdict[int, int] = defaultdict(int)  # tokens, preempted work included
        self.ends: dict[int, str] = {}
        self.ends_ns: dict[int, int] = {}
        self.cached: dict[int, int] = {}  # tokens from the prefix cache, by finished request
        self.preemptions = 0
        self.steps: list[LoggedStep] = []
        self.audits = 0
        self._audited = audited
        self._first: dict[int, Sequence] = {}  # as it was before any migration

    @property
    def interrupted(self) -> int:
        """Steps that ended between two layers."""
        return sum(step.status == INTERRUPTED for step in self.steps)

    @property
    def tokens(self) -> dict[int, list[int]]:
        """Times of output tokens by request, as a plain dict: comparable."""
        return dict(self.times_ns)

    def on_tokens(self, step: Step, result: StepResult) -> None:
        """Write down a step before it is applied."""
        if not step.work:
            return  # all of its requests have ended
        tokens = sum(work.tokens for work in step.work)
        ends = tuple(result.ends_ns)
        self.steps.append(LoggedStep(step.lane, result.status, len(step.work), tokens, ends))
        instance = step.work[0].sequence.owner
        assert isinstance(instance, Instance)
        assert tokens <= instance.step_tokens, (
            f"a step computes {tokens} tokens, at most {instance.step_tokens}"
        )
        assert len(step.work) == len(result.done), "one WorkDone for each Work"
        for work, done in zip(step.work, result.done, strict=True):
            sequence = work.sequence
            assert sequence.state != FINISHED, f"{sequence!r}: tokens after its end"
            self._first.setdefault(sequence.id, sequence)
            self.computed[sequence.id] += done.tokens
            if done.emitted:
                leapt = len(ends) > 1
                self._emitted(sequence, list(ends) if leapt else list(ends) * done.emitted)
                self.ids[sequence.id] += done.ids
        if self._audited:
            check = partial(self._audit, instance)
            instance.clock.call_at(instance.clock.now_ns(), check, WAKE, _LAST)

    def _emitted(self, sequence: Sequence, times_ns: list[int]) -> None:
        request, known = sequence.request, self.times_ns[sequence.id]
        assert request.id not in self.ends, f"request {request.id} emits after its end"
        last = known[-1] if known else request.arrival_ns
        for time_ns in times_ns:
            assert time_ns >= last, f"request {request.id}: a token at {time_ns}, before {last}"
            last = time_ns
        known += times_ns

    def on_end(
        self, request: Request, sequence: Sequence | None, outcome: str, now_ns: int
    ) -> None:
        """Write down an end."""
        assert request.id not in self.ends, f"request {request.id} ends twice"
        self.ends[request.id], self.ends_ns[request.id] = outcome, now_ns
        if sequence is None:
            return
        self.preemptions += sequence.preemptions
        times_ns = self.times_ns.get(request.id, [])
        assert sequence.output_tokens == len(times_ns), (
            f"request {request.id} has {sequence.output_tokens} output tokens, {len(times_ns)} came out"
        )
        if outcome == FINISHED_OK:
            self.cached[request.id] = sequence.cached_tokens
            if not sequence.preemptions and self._first[request.id] is sequence:
                done = self.computed[request.id] + sequence.cached_tokens
                assert done == sequence.computed_tokens, (
                    f"request {request.id} has {sequence.computed_tokens} tokens of KV, {done} were computed"
                )

    def _audit(self, instance: Instance) -> None:
        audit(instance)
        self.audits += 1
