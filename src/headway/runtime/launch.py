"""From a checked plan to a step in flight: take blocks, hold everyone, and see how far to leap."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from functools import partial
from typing import TYPE_CHECKING

from headway.core.plan import Step, StepPlan, Work
from headway.core.protocols import StepHandle
from headway.core.sequence import WAITING, Sequence
from headway.runtime.apply_result import expect
from headway.runtime.works import head_of

if TYPE_CHECKING:
    from headway.runtime.instance import Instance

LEAP_STEPS = 512  # longest leap; bounds the memory of one result


class Flight:
    """A step the executor has, and our handle on it.

    Its decodes hold a lease each, but in an instance with one lane that lease is written down only when
    something but the step's own end looks at the books (`lease_decodes`): a simulation seldom needs it.
    """

    __slots__ = ("handle", "leased", "step")

    def __init__(self, step: Step) -> None:
        self.step = step
        self.handle: StepHandle | None = None
        self.leased = False

    def lease_decodes(self) -> None:
        """Write down the leases of the step's decodes."""
        if not self.leased:
            self.leased = True
            lane = self.step.lane
            for sequence in self.step.decodes:
                sequence.leases += 1
                sequence.lane = lane


class Launcher:
    """The instance's way to its executor."""

    def __init__(self, instance: Instance, *, leap: bool) -> None:
        self._instance, self._leap = instance, leap
        self._keys = {lane: (instance.key << 8) + n for n, lane in enumerate(instance.lanes)}

    def launch(self, lane: str, works: Seq[Work], plan: StepPlan) -> None:
        """Start a step; its blocks were checked."""
        instance = self._instance
        view, pool = instance.view, instance.pool
        decodes = head_of(works, view.all_decodes) if view.decodes_taken else ()
        if decodes:
            pool.advance(view.growing, 1)
        if len(works) > len(decodes):
            self._lease(lane, works[len(decodes) :])
        instance.steps += 1
        instance.busy += 1
        share = plan.shares.get(lane) if plan.shares else None
        leaps = plan.steady and self._leap and not view.draft.moves
        if instance.preempts and instance.queues.waiting:
            leaps = False  # keys that move may let one go before another at any step
        leaps = leaps and instance.speculation is None  # it may draft in the very next step
        if leaps and instance.several:  # two leaps at once would count on the same free blocks
            leaps = instance.busy == 1 and sum(map(bool, plan.work.values())) == 1
        repeats = self._repeats(works, decodes) if leaps else 1
        step = Step(
            instance.steps,
            lane,
            works,
            repeats,
            share,
            self._keys[lane],
            decodes,
            plan.nano_batches,
        )
        flight = Flight(step)
        if instance.several:
            flight.lease_decodes()
        instance.flights[lane].append(flight)
        if instance.moves.held and not instance.overlapped:
            instance.moves.deferred.append(partial(self._execute, flight))
        else:
            self._execute(flight)
        if instance.overlapped:
            for work in works:  # only now: the executor was to see what comes before this step
                expect(work)

    def _execute(self, flight: Flight) -> None:
        instance = self._instance
        on_done = partial(instance.step_done, flight)
        flight.handle = instance.executor.execute(flight.step, on_done)

    def _lease(self, lane: str, works: Seq[Work]) -> None:
        """Take blocks, start who waited, and hold everyone until the step ends."""
        instance = self._instance
        now_ns, pool, queues = instance.clock.now_ns(), instance.pool, instance.queues
        for work in works:
            sequence = work[0]
            reached = sequence.computed_tokens + sequence.pending_tokens + work[1]
            if sequence.denoises:
                reached = sequence.total_tokens
            if reached > sequence.capacity_tokens:
                pool.grow(sequence, reached)
            if sequence.state is WAITING:
                queues.remove(sequence)
                queues.add_running(sequence)
                if sequence.started_ns < 0:
                    sequence.started_ns = now_ns
            sequence.leases += 1
            sequence.lane = lane

    def _repeats(self, works: Seq[Work], decodes: Seq[Sequence]) -> int:
        """How often the step may repeat before the plan, or the room for it, would change."""
        instance = self._instance
        if len(works) == len(decodes) and not (
            instance.several or instance.dynamic or instance.streams
        ):
            return instance.pool.repeats_until_full(works, len(works), LEAP_STEPS)
        if instance.overlapped:
            return 1
        if instance.dynamic and len(works) < len(instance.queues.running):
            return 1  # progress may put one left out before another
        repeats, total = LEAP_STEPS, len(decodes)
        if instance.streams and any(s.request.stage.period_ns for s in decodes):
            return 1
        for sequence, tokens, layers, drafts, _, pad_to in works[total:]:
            total += tokens
            stage = sequence.request.stage
            if stage.period_ns or stage.denoise_tokens or layers or drafts or pad_to:
                return 1
            if sequence.decodes:
                continue
            left = sequence.total_tokens - sequence.computed_tokens
            if left <= tokens:
                return 1
            # A chunk: no repeat may complete the prompt, and all must be as long as this one.
            repeats = min(repeats, (left - 1) // tokens)
        return instance.pool.repeats_until_full(works, total, repeats) if repeats > 1 else 1
