"""Fewest late: by deadline, but who would make others late by being long makes room.

Earliest deadline first is best while all can be in time. In an overload it works on what is late already and makes
everybody late. Here first tokens are laid out by deadline, at the pace at which prompts are computed; where one would
come late, the longest prompt before it (or itself) is put off, until the rest is in time. Most promises are kept that
way, and the long ones pay: those put off go on when nobody else wants the tokens, under an overload without end maybe
never. Who has had a first token goes by when the next is due; requests that were promised nothing come last.

Source: Moore, "An n Job, One Machine Sequencing Algorithm for Minimizing the Number of Late Jobs", Management Science
1968 (the Moore-Hodgson algorithm). Differs: jobs come over time, so the choice is made anew at every event, and who was
put off may come back; the pace is what steps with prompts took for a token of a prompt, old ones fading; decodes are in
that pace and no jobs.
Cost: O(n log n) per step and arrival, n = requests without a first token.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import ClassVar

from headway.core import Sequence, Step, StepResult

IN_TIME, PUT_OFF, NO_PROMISE = 0, 1, 2


@dataclass
class FewestLate:
    """Options: what is left of a step's weight in the pace when the next has run, and a factor on the pace."""

    dynamic: ClassVar[bool] = True

    keep: float = 0.95
    caution: float = 1.0
    _jobs: dict[int, tuple[int, int]] = field(
        default_factory=dict, init=False, repr=False
    )  # due, tokens
    _put_off: set[int] = field(default_factory=set, init=False, repr=False)
    _here: set[int] = field(default_factory=set, init=False, repr=False)
    _now_ns: int = field(default=0, init=False, repr=False)
    _pace: tuple[float, float] = field(
        default=(0.0, 0.0), init=False, repr=False
    )  # ns, prompt tokens

    def on_submit(self, sequence: Sequence) -> None:
        """One job more; idle time is no step's."""
        if not self._here:
            self._now_ns = max(self._now_ns, sequence.request.arrival_ns)
        self._here.add(sequence.id)
        due_ns = sequence.request.due_ns(0)
        if due_ns is not None and not sequence.output_tokens:
            self._jobs[sequence.id] = due_ns, sequence.remaining_tokens
            self._choose()

    def on_step(self, step: Step, result: StepResult) -> None:
        """Learn the pace and what is left of each prompt."""
        ends = result.ends_ns
        spent_ns, self._now_ns = ends[-1] - self._now_ns, ends[-1]
        computed = 0
        for work in step.work:
            job = self._jobs.get(work.sequence.id)
            if job is not None:
                left = work.sequence.remaining_tokens
                computed += max(0, job[1] - left)
                if work.sequence.output_tokens:
                    del self._jobs[work.sequence.id]
                else:
                    self._jobs[work.sequence.id] = job[0], left
        if computed and spent_ns > 0:
            sum_ns, tokens = self._pace
            self._pace = sum_ns * self.keep + spent_ns, tokens * self.keep + computed
        if self._jobs:
            self._choose()

    def on_end(self, sequence: Sequence, outcome: str) -> None:
        """One job less."""
        del outcome
        self._here.discard(sequence.id)
        self._jobs.pop(sequence.id, None)

    def key(self, sequence: Sequence) -> tuple[float, ...]:
        """In time, put off, or promised nothing; then due time, then id."""
        request = sequence.request
        due_ns = request.due_ns(sequence.output_tokens)
        if due_ns is None:
            return (NO_PROMISE, request.arrival_ns, request.id)
        return (PUT_OFF if sequence.id in self._put_off else IN_TIME, due_ns, request.id)

    def _choose(self) -> None:
        """Whom to put off so that most of the others are in time."""
        sum_ns, tokens = self._pace
        each_ns = self.caution * sum_ns / tokens if tokens else 0.0
        at_ns = float(self._now_ns)
        kept: list[tuple[int, int]] = []  # tokens, negative, and id: the longest first
        self._put_off = set()
        for number, (due_ns, left) in sorted(
            self._jobs.items(), key=lambda job: (job[1][0], job[0])
        ):
            heappush(kept, (-left, number))
            at_ns += left * each_ns
            if at_ns > due_ns:
                longest, one = heappop(kept)
                at_ns += longest * each_ns
                self._put_off.add(one)
