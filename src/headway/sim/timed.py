"""An executor that computes nothing: `when` says how long a step takes, `what` says what came out.

With a timing model and a table of lengths it simulates; with recorded durations and an engine's compute it is the
scripted executor of the parity test; on a wall clock it is a mock server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq

from headway.core.plan import (
    COPY_OUT,
    DONE,
    EXPORT,
    FAILED,
    INTERRUPTED,
    Step,
    StepResult,
    Transfer,
    WorkDone,
)
from headway.core.protocols import (
    COPIES,
    DENOISES,
    DRAFTS,
    LANES,
    LAYERS,
    LEAPS,
    OVERLAP,
    PADDING,
    PREDICTS,
    SHARES,
    TRANSFER,
    TRANSFERS,
    Clock,
    Outcomes,
    TimingModel,
)
from headway.core.sequence import Sequence
from headway.sim.flight import FULL_RATE, Flight

Rates = Callable[[Seq[Step], Seq[int]], Seq[int]]
QueueOf = Callable[[Transfer], str]


class Timed:
    """Lanes run side by side, steps of a lane queue.

    A timing model with `rates(steps, shares)` (per mille of each step's speed alone) says how lanes contend, and what
    a lane alone loses that keeps to a part of the device. Else each runs at its share, and a lane alone at full rate.
    With `queue_of(transfer)` it names the link that a transfer waits for; else all share one.
    """

    def __init__(self, clock: Clock, when: TimingModel, what: Outcomes) -> None:
        self.clock, self.when, self.what = clock, when, what
        self.layers = when.layers
        self.release = what.release  # nothing is kept here
        offers = {LANES, LAYERS, TRANSFERS, COPIES, DRAFTS, PREDICTS, PADDING}
        if getattr(when, "prices_nano_batches", False):
            offers.add(OVERLAP)
        tabled = (
            {LEAPS, DENOISES} if what.leaps else set[str]()
        )  # only a table of lengths knows them
        self._rates: Rates | None = getattr(when, "rates", None)
        contends = {SHARES} if self._rates else set[str]()
        self.offers = frozenset(offers | tabled | contends)
        self._lanes: dict[str, list[Flight]] = {}
        self._shares: dict[str, int] = {}
        self._queue_of: QueueOf = getattr(when, "queue_of", _one_queue)
        self._free_ns: dict[str, int] = {}  # by queue: when its link is free
        self._emitted: dict[int, tuple[WorkDone, WorkDone]] = {}  # by repeats: went on, ended

    def execute(self, step: Step, on_done: Callable[[StepResult], None]) -> Flight:
        """Queue a step on its lane."""
        queue = self._lanes.get(step.lane)
        if queue is None:
            queue = self._lanes[step.lane] = []
        if step.share is not None:
            self._shares[step.lane] = step.share
        flight = Flight(step, on_done, self)
        queue.append(flight)
        if len(queue) == 1:
            self._begin(flight)
        return flight

    def transfer(self, transfer: Transfer, on_done: Callable[[], None]) -> None:
        """Over its link, first come first served. Whoever pulls takes the time: what is pulled here takes none."""
        if transfer.kind in (EXPORT, COPY_OUT):
            self.clock.call_at(self.clock.now_ns(), on_done, TRANSFER, transfer.id)
            return
        queue = self._queue_of(transfer)
        start = max(self.clock.now_ns(), self._free_ns.get(queue, 0))
        end = self._free_ns[queue] = start + self.when.transfer_ns(transfer)
        self.clock.call_at(end, on_done, TRANSFER, transfer.id)

    def adopt_copy(self, from_id: int, to: Sequence, tokens: int) -> bool:
        """Nothing is kept here: it is taken to be true."""
        del from_id, to, tokens
        return True

    def drop_copy(self, request_id: int) -> None:
        """Nothing is kept here."""

    def _begin(self, flight: Flight) -> None:
        step = flight.step
        repeats = step.repeats
        if repeats > 1:
            if len(step.work) == len(step.decodes):
                flight.lefts = lefts = self.what.lefts(step.decodes)
            else:
                flight.lefts = self._lefts(step)
                lefts = [left for left in flight.lefts if left]
            repeats = min(repeats, min(lefts, default=repeats))
        alone = len(self._lanes) == 1 and not (self._rates and self._shares)
        flight.begin(self.clock.now_ns(), self.when.durations_ns(step, repeats), alone=alone)
        if not alone:
            self._retime()

    def _lefts(self, step: Step) -> list[int]:
        """Repeats until each work's model stops; 0 for a chunk, which samples nothing."""
        lefts = self.what.lefts(step.decodes)
        for work in step.work[len(lefts) :]:
            sequence = work[0]
            chunk = sequence.total_tokens - sequence.computed_tokens != work[1]
            lefts.append(0 if chunk else self.what.lefts((sequence,))[0])
        return lefts

    def _retime(self) -> None:
        """Give every lane its rate; called when a lane starts, ends or changes its share."""
        heads = [queue[0] for queue in self._lanes.values() if queue]
        shares = [self._shares.get(head.step.lane, FULL_RATE // len(heads)) for head in heads]
        rates: Seq[int] = shares
        if len(heads) == 1 and (not self._rates or shares[0] >= FULL_RATE):
            rates = (FULL_RATE,)
        elif self._rates:
            rates = self._rates([head.step for head in heads], shares)
        for flight, rate in zip(heads, rates, strict=True):
            flight.run_at(max(1, rate))

    def landed(self, flight: Flight) -> None:
        """Start the lane's next step, then report: the report may plan more."""
        queue = self._lanes[flight.step.lane]
        queue.pop(0)
        if queue:
            self._begin(queue[0])
        elif len(self._lanes) > 1:
            self._retime()
        flight.on_done(self.result(flight, flight.landed_ns, last=True))

    def result(self, flight: Flight, ends_ns: list[int], *, last: bool) -> StepResult:
        """What the repeats that ended at `ends_ns` did."""
        step, repeats = flight.step, len(ends_ns)
        if flight.stop_layers:
            return StepResult(INTERRUPTED, self.what.outcome(step, flight.stop_layers), ends_ns)
        if step.repeats == 1:
            try:
                done = self.what.outcome(step, self.layers)
            except ArithmeticError as error:
                return StepResult(FAILED, [], ends_ns, str(error))
            return StepResult(DONE, done, ends_ns)
        return StepResult(DONE, self._leapt(flight, repeats, last=last), ends_ns)

    def _leapt(self, flight: Flight, repeats: int, *, last: bool) -> list[WorkDone]:
        layers = self.layers
        known = self._emitted.get(repeats)
        if known is None:
            same = WorkDone(layers, repeats, repeats)
            known = self._emitted[repeats] = (same, same._replace(ended=True))
        same, ended = known
        stopped = flight.repeats_done if last else -1
        if last and stopped in flight.lefts:
            done = [ended if left == stopped else same for left in flight.lefts]
        else:
            done = [same] * len(flight.lefts)
        for n in range(len(flight.step.decodes), len(done)):
            if not flight.lefts[n]:
                done[n] = WorkDone(layers, repeats * flight.step.work[n][1], 0)
        return done


def _one_queue(transfer: Transfer) -> str:
    del transfer
    return ""
