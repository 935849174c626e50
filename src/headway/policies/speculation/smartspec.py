"""SmartSpec: draft as many tokens as bring the most output per second, given the load and how often drafts are right.

With acceptance a, k drafts yield 1 + a + … + a^k tokens of a sequence; the step that verifies them takes T, draft
passes and prompt tokens beside them included. The length with the largest sum of yields over T is drafted: long at low
load, none where verification costs as much as it brings or drafts are wrong.

Source: Liu et al., "Optimizing Speculative Decoding for Serving Large Language Models Using Goodput", arXiv 2406.14066
(later TurboSpec). Differs: T is asked of the world where it predicts, else fitted while serving (`step_time_fit`).
Acceptance is accepted over *judged* drafts (those behind a wrong one say nothing), not over proposed ones, which would
call long drafts worse than they are; the last step of a request, cut by its end, does not count. Where nothing is
drafted, one token is every 1 / `explore` steps, or acceptance would never be learnt again. The paper's own rule for
lengths per request is not certain to be ours.
Cost: O(decodes) per step, predictions remembered; `per_request` O(most · drafts · log drafts).
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from heapq import heapify, heapreplace
from typing import ClassVar

from headway.core import InstanceView, Sequence, Step, StepResult, Work
from headway.errors import MissingCapabilityError
from headway.policies.step_time_fit import StepTimeFit

GRAIN = 128  # tokens of mean context, and a half of prompt tokens: predictions are kept by these
KEPT = 4096  # predictions that are remembered
WARM_UP = 12  # steps of varied length before a fit is believed

Times = list[tuple[float, float]]
"""By longest draft k: time of a step in which one sequence drafts k tokens, and in which all do."""


@dataclass
class SmartSpec:
    """Options: longest draft, a length for each request or one for all, weight of a new observation, acceptance before
    there is one, and the share of steps that explore.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"drafts"})

    most: int = 6
    per_request: bool = False
    weight: float = 0.1
    prior: float = 0.7
    explore: float = 0.02
    _all: list[float] = field(default_factory=list, init=False, repr=False)  # accepted, judged
    _own: dict[int, list[float]] = field(default_factory=dict, init=False, repr=False)
    _idle: dict[int, int] = field(default_factory=dict, init=False, repr=False)  # steps undrafted
    _known: dict[tuple[int, int, int], Times] = field(default_factory=dict, init=False, repr=False)
    _fit: StepTimeFit | None = field(default=None, init=False, repr=False)
    _planned_ns: int = field(default=-1, init=False, repr=False)

    def drafts(self, view: InstanceView, decoding: Seq[Sequence]) -> int | list[int]:
        """The most useful number for all, or for each."""
        self._planned_ns = view.now_ns
        fit = self._fit
        if fit is not None and fit.steps < WARM_UP:
            return fit.steps % min(4, self.most + 1)
        times = self._times(view, decoding)
        if self.per_request:
            best = _each(times, [self.acceptance(sequence) for sequence in decoding])
            return [
                self._explored(sequence.id, count)
                for sequence, count in zip(decoding, best, strict=True)
            ]
        return self._explored(-1, _uniform(times, self.acceptance()))

    def acceptance(self, sequence: Sequence | None = None) -> float:
        """The chance that a draft is right: of a request, or of all."""
        accepted, judged = self._all or (self.prior, 1.0)
        if sequence is not None and sequence.id in self._own:
            accepted, judged = self._own[sequence.id]
        return accepted / judged

    def on_step(self, step: Step, result: StepResult) -> None:
        """Learn from what came of the drafts, and from how long it took."""
        planned_ns, self._planned_ns = self._planned_ns, -1
        if not result.done:
            return
        if self._fit is not None and 0 <= planned_ns < result.ends_ns[0]:
            self._learn_time(self._fit, step, result.ends_ns[0] - planned_ns)
        accepted = judged = 0
        plain = len(step.decodes)
        for work, done in zip(step.work[plain:], result.done[plain:], strict=True):
            if not work.draft_tokens or not done.emitted:
                continue
            right = done.emitted - 1
            if done.ended and right < work.draft_tokens:
                continue
            seen = min(right + 1, work.draft_tokens)
            accepted, judged = accepted + right, judged + seen
            if self.per_request:
                self._learn(self._own.setdefault(work.sequence.id, self._start()), right, seen)
        if judged:
            self._all = self._all or self._start()
            self._learn(self._all, accepted, judged)

    def on_end(self, sequence: Sequence, outcome: str) -> None:
        """Forget a request."""
        del outcome
        self._own.pop(sequence.id, None)
        self._idle.pop(sequence.id, None)

    def _start(self) -> list[float]:
        return [self.acceptance(), 1.0]

    def _learn(self, counts: list[float], right: int, seen: int) -> None:
        counts[0] += self.weight * (right - counts[0])
        counts[1] += self.weight * (seen - counts[1])

    def _explored(self, key: int, count: int) -> int:
        """`count`, or 1 when nothing was drafted for too long."""
        if count:
            self._idle.pop(key, None)
            return count
        idle = self._idle.get(key, 0) + 1
        if not self.explore or idle * self.explore < 1:
            self._idle[key] = idle
            return 0
        self._idle[key] = 0
        return min(1, self.most)

    # -- step times ----------------------------------------------------------------------------------------------

    def _times(self, view: InstanceView, decoding: Seq[Sequence]) -> Times:
        count = len(decoding)
        context = sum([sequence.computed_tokens for sequence in decoding])
        prompt = _prompt(view, max(0, view.step_tokens - count))
        chunk = prompt.tokens if prompt else 0
        if self._fit is None:
            key = count, context // (count * GRAIN), 2 * chunk // GRAIN
            known = self._known.get(key)
            if known is not None:
                return known
            try:
                times = self._predicted(view, decoding, [prompt] if prompt else [])
            except MissingCapabilityError:
                self._fit = StepTimeFit()
            else:
                if len(self._known) >= KEPT:
                    self._known.clear()
                self._known[key] = times
                return times
        fit, tokens = self._fit, count + chunk
        return [
            (fit.time_ns(tokens + k, k, context), fit.time_ns(tokens + count * k, k, context))
            for k in range(self.most + 1)
        ]

    def _predicted(self, view: InstanceView, decoding: Seq[Sequence], prompts: Seq[Work]) -> Times:
        plain = [sequence.decode for sequence in decoding]
        times: Times = [(float(view.step_time_ns([*plain, *prompts])),) * 2]
        for k in range(1, self.most + 1):
            every = [Work(sequence, 1 + k, None, k) for sequence in decoding]
            all_ns = float(view.step_time_ns([*every, *prompts]))
            one_ns = all_ns
            if self.per_request and len(every) > 1:
                one_ns = float(view.step_time_ns([every[0], *plain[1:], *prompts]))
            times.append((one_ns, all_ns))
        return times

    def _learn_time(self, fit: StepTimeFit, step: Step, time_ns: int) -> None:
        tokens = sum([work.tokens for work in step.work])
        longest = max([work.draft_tokens for work in step.work])
        context = sum([w.sequence.computed_tokens for w in step.work if w.sequence.decodes])
        fit.learn(tokens, longest, context, time_ns)


def _prompt(view: InstanceView, room: int) -> Work | None:
    """Prompt tokens that are likely to be in the step, as one chunk: verifying delays them, it saves none."""
    waiting = [*view.prefilling] or [*view.waiting[:1]]
    tokens = min(room, sum([sequence.remaining_tokens for sequence in waiting]))
    starts = not view.prefilling and waiting
    if tokens <= 0 or (starts and tokens > view.free_blocks * view.block_tokens):
        return None
    return Work(waiting[0], tokens)


def _uniform(times: Times, acceptance: float) -> int:
    """One length for all."""
    best, best_rate, yielded, chance = 0, 0.0, 0.0, 1.0
    for k, (_, time_ns) in enumerate(times):
        yielded += chance
        chance *= acceptance
        if yielded / time_ns > best_rate:
            best, best_rate = k, yielded / time_ns
    return best


def _each(times: Times, chances: Seq[float]) -> list[int]:
    """A length for each: for every longest draft, add the likeliest token while goodput rises; keep the best.

    Between one sequence drafting and all, time is taken to be linear in the tokens.
    """
    count = len(chances)
    best, best_rate = [0] * count, count / times[0][1]
    for longest in range(1, len(times)):
        one_ns, all_ns = times[longest]
        slope_ns = (all_ns - one_ns) / max(1, (count - 1) * longest)
        lengths, taken = [0] * count, 0
        yielded, rate = float(count), 0.0
        heap = [(-chance, number) for number, chance in enumerate(chances)]
        heapify(heap)
        while heap[0][0] < 0:
            gain, number = heap[0]
            next_ns = one_ns + slope_ns * max(0, taken + 1 - longest)
            if taken and (yielded - gain) / next_ns <= rate:
                break
            yielded, taken = yielded - gain, taken + 1
            rate = yielded / next_ns
            lengths[number] += 1
            full = lengths[number] == longest
            heapreplace(heap, (0.0 if full else gain * chances[number], number))
        if rate > best_rate:
            best, best_rate = lengths, rate
    return best
