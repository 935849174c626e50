"""One copy of a model: its sequences, lanes and blocks. Event-driven: no loop, no await, no thread.

The same lines run in every world. Every entry settles leaps where the books are about to be read, changes the
books, and lets the policy fill idle lanes (`planning`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random

from headway.core.deployment import Variant
from headway.core.fleet import ABORTED, FAILED_STEP, FINISHED_OK, MIXED, PREFILL, RETURNED, Report
from headway.core.plan import FAILED, STEP, Step, StepResult, Transfer
from headway.core.protocols import (
    ARRIVAL,
    LEAPS,
    Batching,
    Clock,
    Executor,
    Memory,
    Ordering,
    Sink,
    Speculation,
    TimingModel,
)
from headway.core.request import Request
from headway.core.sequence import ENTERING, FINISHED, RESTING, Sequence
from headway.errors import PlanError
from headway.runtime.apply_result import apply_result, living
from headway.runtime.blame import raised
from headway.runtime.ears import Ears
from headway.runtime.ended import EndedIds
from headway.runtime.extents import pool_of
from headway.runtime.launch import Flight
from headway.runtime.moves import Moves
from headway.runtime.moving import Moving
from headway.runtime.planning import Planning
from headway.runtime.prefix_index import NameAnswer, PrefixIndex
from headway.runtime.queues import Queues
from headway.runtime.reports import report_of
from headway.runtime.traits import (
    check_needs,
    group_blocks_of,
    is_dynamic,
    lanes_of,
    no_denoising,
    preempts,
    step_tokens_of,
)
from headway.runtime.view import View


@dataclass(frozen=True, slots=True)
class InstanceOptions:
    """Limits of one instance, and what is on."""

    blocks: int
    block_tokens: int = 16
    step_tokens: int | None = None  # None: what the batching policy says
    prefix_cache: bool = True
    salted: bool = True  # no prefix is shared between tenants
    leap: bool = True
    host_blocks: int | None = None  # KV that fits on the host; None: no limit
    seed: int = 0
    key: int = 0  # orders simultaneous results of several instances
    name: str = "i0"
    variant: Variant | None = None  # which weights it holds, and how good their answers are
    role: str = MIXED  # mixed | prefill | decode
    pull_share: float = 0.05  # decode takes prompts over while less of its blocks is on the way in
    last_stage_blocks: int = 16  # a migrating sequence stops when so many are left to copy
    most_stages: int = 3  # of a migration, the last one included; else it comes to nothing
    names: NameAnswer | None = None  # of the blocks of answers, where prompts are named by blocks


class Instance:
    """Entries: submit, abort, wake, step_done, transfer_done, drain, report; and those of `moving`."""

    def __init__(
        self,
        clock: Clock,
        executor: Executor,
        policies: tuple[Batching, Ordering, Memory],
        options: InstanceOptions,
        sink: Sink,
        timing: TimingModel | None = None,
        speculation: Speculation | None = None,
    ) -> None:
        self.batching, self.ordering, self.memory = policies
        self.speculation = speculation
        everybody = (*policies, *([speculation] if speculation else []))
        check_needs(options.name, executor.offers, *everybody)
        self.ears = Ears(everybody)
        self.clock, self.executor, self.sink, self.timing = clock, executor, sink, timing
        self.name, self.key, self.layers = options.name, options.key, executor.layers
        self.variant = options.variant
        self.lanes = lanes_of(self.batching)
        self.several = sum(self.lanes.values()) > 1  # may more than one step be in flight?
        self.overlapped = max(self.lanes.values()) > 1
        self.step_tokens = options.step_tokens or step_tokens_of(self.batching)
        cached = options.prefix_cache
        index = PrefixIndex(salted=options.salted, names=options.names) if cached else None
        group = group_blocks_of(self.memory)
        self.pool = pool_of(options.blocks, options.block_tokens, index, group)
        self.queues = Queues(self.ordering)
        self.role, self.parks = options.role, options.role == PREFILL
        self.moves = Moves(self, options)
        self.moving = Moving(self)
        self.flights: dict[str, list[Flight]] = {lane: [] for lane in self.lanes}
        self.busy = 0  # steps in flight
        self.sequences: dict[int, Sequence] = {}
        self.prompt_tokens = 0  # of the requests that are here
        self.preemptions = 0
        self.view = View(self, Random(options.seed))
        self.stopped: PlanError | None = None
        self.deaf: PlanError | None = None  # a listener raised: the instance stops at its next plan
        self.steps = 0
        self.dynamic, self.preempts = is_dynamic(self.ordering), preempts(self.ordering)
        self._ended = EndedIds()
        self._planning = Planning(self, leap=options.leap and LEAPS in executor.offers)
        self._drained: Callable[[], None] | None = None
        self.resting = 0
        self.orphans: list[Sequence] = []  # ended with a step or transfer still in flight
        self.partials = False  # was any chunk ever left half done?
        self.streams = 0  # periodic requests seen: until the first, nobody looks for them

    # -- entries -------------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> str | None:
        """Why it was rejected, or None. What is already here, or has ended, is accepted again: ports resend."""
        if request.id in self.sequences or request.id in self._ended:
            return None
        if self.stopped or self._drained:
            return (
                f"{self.name} has stopped: {self.stopped}"
                if self.stopped
                else f"{self.name} drains"
            )
        too_long = self.too_long(request)
        if too_long is not None:
            return too_long
        sequence = self.sequences[request.id] = Sequence(request, owner=self)
        self.prompt_tokens += request.prompt_tokens
        self.streams += request.stage.period_ns > 0
        try:
            self.ears.submitted(sequence)
            self.queues.add_waiting(sequence)
        except PlanError as error:
            del self.sequences[request.id]
            self.prompt_tokens -= request.prompt_tokens
            return str(error)
        except Exception as error:  # noqa: BLE001 - an ordering policy is somebody else's code
            del self.sequences[request.id]
            self.prompt_tokens -= request.prompt_tokens
            return raised(self.ordering, "key", error)
        self.changed()
        return None

    def abort(self, request_id: int, outcome: str = ABORTED) -> None:
        """End a request wherever it is; an unknown id is ignored: ports keep the order per request."""
        sequence = self.sequences.get(request_id)
        if sequence:
            self.settle()
            self.finish(sequence, outcome)
            self.changed()

    def wake(self) -> None:
        """The time a plan asked for has come."""
        self._planning.woken()
        self.changed()

    def step_done(self, flight: Flight, result: StepResult) -> None:
        """The executor reports a step's end, or the rest of a leap."""
        step = flight.step
        flight.handle = None
        self.flights[step.lane].remove(flight)
        self.busy -= 1
        if self.stopped:
            self._end_leases(flight)
            return
        if self.busy:
            self._end_leaps()  # of other lanes: what lands here may join them
            self.settle()
        if result.status == FAILED:
            self._end_leases(flight)
            for work in step.work:
                self.finish(
                    work.sequence, f"{FAILED_STEP}: {result.error}" if result.error else FAILED_STEP
                )
        else:
            self._tell(step, result)
            apply_result(self, flight, result, landed=True)
        if self.moves.exports.due:
            self.moves.exports.stop_due()
        self._planning.fill_lanes()
        if self._drained:
            self.check_drained()

    def transfer_done(self, transfer: Transfer) -> None:
        """KV has arrived somewhere."""
        self.settle()
        self.moves.landed(transfer)
        if self.moves.exports.due:
            self.moves.exports.stop_due()
        if not self.stopped:
            self.changed()
        self.check_drained()

    def drain(self, on_drained: Callable[[], None]) -> None:
        """Take no more; call back once the last sequence and the last lease have ended."""
        self._drained = on_drained
        self.check_drained()

    def report(self) -> Report:
        """What this instance says of itself now."""
        self.settle()
        return report_of(self)

    def _tell(self, step: Step, result: StepResult) -> None:
        """Let the sink hear; never of a request after its end."""
        if self.orphans:
            step, result = living(step, result)
        self.sink.on_tokens(step, result)
        if self.ears.hear_steps and not self.stopped:
            try:
                self.ears.landed(step, result)
            except PlanError as error:
                self.deaf = error

    # -- events ------------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Something outside the steps has changed: leaps end, lanes are filled, busy ones perhaps interrupted."""
        if self.busy:
            self._end_leaps()
            if self._planning.listens or self.busy < len(self.lanes) or self.overlapped:
                self.settle()
        self._planning.fill_lanes()
        self._planning.hear()

    def _end_leaps(self) -> None:
        """Let leaps end with the step that is under way."""
        for flights in self.flights.values():
            for flight in flights:
                if flight.step.repeats > 1 and flight.handle:
                    flight.handle.interrupt(STEP)

    def settle(self) -> None:
        """Bring the books up to date with what leaps have landed."""
        if not self.busy:
            return
        for flights in self.flights.values():
            for flight in flights:
                flight.lease_decodes()
                if flight.step.repeats > 1 and flight.handle:
                    landed = flight.handle.settle()
                    if landed:
                        self._tell(flight.step, landed)
                        apply_result(self, flight, landed, landed=False)

    # -- the books -----------------------------------------------------------------------------------------------

    def finish(self, sequence: Sequence, outcome: str) -> None:
        """End a sequence in any state. Blocks in flight stay with their leases.

        What others may go on with is left to them when all went well: of a request that failed KV may be missing, and
        one that was given up is no whole turn.
        """
        if sequence.state == FINISHED:
            return
        whole = outcome == FINISHED_OK and sequence.state != ENTERING
        if whole:
            self.pool.publish(sequence, ended=True)
        self.queues.remove(sequence)
        self.resting -= sequence.state == RESTING
        self.moves.forget(sequence, whole=whole)
        sequence.state = FINISHED
        if sequence.leases:
            self.orphans.append(sequence)
        else:
            self.pool.give_back(sequence)
        request = sequence.request
        del self.sequences[request.id]
        self._ended.add(request.id)
        self.prompt_tokens -= request.prompt_tokens
        self.executor.release(request.id)
        self.sink.on_end(request, sequence, outcome, self.clock.now_ns())
        self.tell(self.ears.ended, sequence, outcome)
        del (
            sequence.decode
        )  # it refers back: without this only the cyclic collector could free them

    def tell(self, listener: Callable[..., None], *what: object) -> None:
        """Let policies hear; one that raises stops the instance at its next plan."""
        try:
            listener(*what)
        except PlanError as error:
            self.deaf = error

    def too_long(self, request: Request) -> str | None:
        """Why it can never be served here, or None."""
        most = request.prompt_tokens + request.max_tokens * (1 + request.stage.unit_tokens)
        room = self.pool.total * self.pool.block_tokens
        if most <= room:
            offers = self.executor.offers
            denoises = request.stage.denoise_tokens > 0
            return no_denoising(request, self.batching, offers) if denoises else None
        return (
            f"needs KV for {most} tokens (prompt + max_tokens), {self.name} holds {room}: lower max_tokens or "
            "use a larger instance"
        )

    @property
    def draining(self) -> bool:
        """Does it take no more?"""
        return self._drained is not None

    def bury_orphans(self) -> None:
        """Free the blocks of those whose last lease has ended."""
        for sequence in self.orphans:
            self.pool.give_back(sequence)  # does nothing while a lease is left
        self.orphans = [sequence for sequence in self.orphans if sequence.leases]

    def rest(self, sequence: Sequence, release_ns: int) -> None:
        """A periodic stream keeps its blocks but leaves `running` until its next unit is released."""
        self.queues.remove(sequence)
        sequence.state = RESTING
        self.resting += 1
        self.clock.call_at(
            release_ns, partial(self._release, sequence), ARRIVAL, sequence.request.id
        )

    def _release(self, sequence: Sequence) -> None:
        if sequence.state == RESTING and not self.stopped:
            self.settle()
            self.resting -= 1
            self.queues.add_running(sequence)
            self.changed()

    def _end_leases(self, flight: Flight) -> None:
        flight.lease_decodes()
        for work in flight.step.work:
            self.pool.end_lease(work.sequence)

    def stop(self, error: PlanError) -> None:
        self.stopped = error
        for sequence in list(self.sequences.values()):
            self.finish(sequence, RETURNED)

    def check_drained(self) -> None:
        """Call back if it drains and nothing is left."""
        moves = self.moves
        if self._drained and not (
            self.sequences or self.busy or moves.under_way or moves.imports.entering
        ):
            drained, self._drained = self._drained, lambda: None
            drained()

    def host_has_room(self, sequence: Sequence) -> bool:
        """May the memory policy swap this sequence out?"""
        return self.moves.host_has_room(sequence)

    def may_overlap(self, sequence: Sequence, lane: str) -> bool:
        """May a sequence in flight join its lane's next step? Not a stream: its next unit is not here yet."""
        return (
            sequence.lane == lane
            and sequence.leases < self.lanes[lane]
            and not sequence.request.stage.period_ns
            and not (self.moves.exports.due and sequence.id in self.moves.exports.open)
        )
