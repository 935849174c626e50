"""Turn a step's result into progress. Progress comes from here and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headway.core.fleet import FAILED_STEP, FINISHED_OK
from headway.core.plan import DONE, Step, StepResult, Work, WorkDone
from headway.core.sequence import FINISHED, RUNNING, Sequence

if TYPE_CHECKING:
    from headway.runtime.instance import Instance
    from headway.runtime.launch import Flight


def apply_result(instance: Instance, flight: Flight, result: StepResult, *, landed: bool) -> None:
    """Apply what a step did. `landed=False`: some repeats of a leap are in, the next one runs already."""
    step = flight.step
    if step.repeats > 1:
        _grow(instance, step, result, ahead=not landed)
    head = 0
    counted = step.decodes and result.status == DONE and result.done[0].emitted
    if counted and not result.done[0].ids:
        head = len(step.decodes)
        _advance_decodes(instance, flight, result, landed=landed)
        if head == len(step.work):
            return
    else:
        flight.lease_decodes()
    pool, layers, end_ns = instance.pool, instance.layers, result.ends_ns[-1]
    for n in range(head, len(step.work)):
        work, done = step.work[n], result.done[n]
        sequence = work.sequence
        if instance.overlapped:
            _unexpect(work)
        if landed:
            sequence.leases -= 1
            if not sequence.leases:
                sequence.lane = None
        if sequence.state is FINISHED:
            instance.bury_orphans()  # what came out for it is dropped
        elif done.error:
            instance.finish(sequence, f"{FAILED_STEP}: {done.error}")
        elif done.layers < layers:
            sequence.partial = (work.tokens, done.layers)
            instance.partials = True
        else:
            sequence.partial = None
            sequence.computed_tokens += done.tokens
            sequence.denoised += sequence.denoises
            if done.emitted:
                _emitted(instance, sequence, done, (result.ends_ns[0], end_ns))
            elif pool.index and sequence.request.prefix:
                pool.publish(sequence)


def living(step: Step, result: StepResult) -> tuple[Step, StepResult]:
    """The same step and result without the sequences that have ended meanwhile."""
    kept = [n for n, work in enumerate(step.work) if work.sequence.state is not FINISHED]
    step = step._replace(
        work=[step.work[n] for n in kept],
        decodes=[s for s in step.decodes if s.state is not FINISHED],
    )
    return step, result._replace(done=[result.done[n] for n in kept if result.done])


def _advance_decodes(
    instance: Instance, flight: Flight, result: StepResult, *, landed: bool
) -> None:
    """The hottest loop of a simulation: plain decodes, one token each a repeat."""
    step = flight.step
    repeats, end_ns, decodes = len(result.ends_ns), result.ends_ns[-1], step.decodes
    if landed and flight.leased:
        for sequence in decodes:
            sequence.leases -= 1
            if not sequence.leases:
                sequence.lane = None
    if instance.overlapped:
        for work in step.work[: len(decodes)]:
            _unexpect(work)
    if instance.orphans:
        decodes = [s for s in decodes if s.state is not FINISHED]
        instance.bury_orphans()
    for sequence in decodes:
        sequence.computed_tokens += repeats
        sequence.total_tokens += repeats
        sequence.output_tokens += repeats
        sequence.last_token_ns = end_ns
    done, count = result.done, len(step.decodes)
    if len(done) > count:
        done = done[:count]
    if done[0].ended or done.count(done[0]) < count:  # counted by identity, mostly
        for sequence in [s for s, each in zip(step.decodes, done, strict=True) if each[3]]:
            if sequence.state is not FINISHED:
                instance.finish(sequence, FINISHED_OK)
    if instance.streams:
        for sequence in decodes:
            if sequence.request.stage.period_ns and sequence.state is not FINISHED:
                _next_unit(instance, sequence)


def _emitted(
    instance: Instance, sequence: Sequence, done: WorkDone, times_ns: tuple[int, int]
) -> None:
    """Output tokens came out, the first and last at `times_ns`."""
    if sequence.first_token_ns < 0:
        sequence.first_token_ns = times_ns[0]
    sequence.last_token_ns = times_ns[1]
    sequence.output_tokens += done.emitted
    if not sequence.denoises:
        sequence.total_tokens += done.emitted
    if done.ids:
        _keep(sequence, done)
    if done.ended or sequence.output_tokens >= sequence.max_tokens:
        instance.finish(sequence, FINISHED_OK)
        return
    if instance.parks and _computed(sequence, done):
        instance.moves.exports.park(sequence)
    elif not sequence.decodes and not sequence.denoises:
        _prefilled(instance, sequence)
    if sequence.request.stage.period_ns:
        _next_unit(instance, sequence)


def _grow(instance: Instance, step: Step, result: StepResult, *, ahead: bool) -> None:
    """A leap takes its blocks as it lands, before anybody's end frees some: as its steps would have."""
    grow, head = instance.pool.grow, len(step.decodes)
    if head:
        instance.pool.advance(step.decodes, len(result.ends_ns) + ahead)
    for n in range(head, len(step.work)):
        work = step.work[n]
        reached = work.sequence.computed_tokens + result.done[n].tokens + ahead * work.tokens
        if reached > work.sequence.capacity_tokens:
            grow(work.sequence, reached)


def _keep(sequence: Sequence, done: WorkDone) -> None:
    if sequence.output_ids is None:
        sequence.output_ids = []
    sequence.output_ids += done.ids


def _computed(sequence: Sequence, done: WorkDone) -> bool:
    """Has it just come to the end of its prompt (or of what a preemption lost)? Streams and diffusion stay."""
    return (
        sequence.state is RUNNING
        and (not sequence.decodes or sequence.output_tokens == done.emitted)
        and not (sequence.request.stage.period_ns or sequence.denoises)
    )


def _prefilled(instance: Instance, sequence: Sequence) -> None:
    """It emitted, so its input is computed: from a prefill it becomes a decode."""
    if instance.pool.index and sequence.request.prefix:
        instance.pool.publish(sequence)
    if not instance.overlapped and sequence.state == RUNNING:
        instance.queues.prefilled(sequence)


def _next_unit(instance: Instance, sequence: Sequence) -> None:
    """A periodic stream gets its next unit's input, and rests until that unit is released."""
    stage, request = sequence.request.stage, sequence.request
    sequence.total_tokens += stage.unit_tokens
    release_ns = request.arrival_ns + sequence.output_tokens * stage.period_ns
    if release_ns > instance.clock.now_ns():
        instance.rest(sequence, release_ns)
    else:
        instance.queues.refile(sequence)


def expect(work: Work) -> None:
    """Assume, while a step is in flight, that it does all it was asked to and that nobody ends."""
    sequence = work.sequence
    sequence.pending_output += work.tokens >= sequence.remaining_tokens
    sequence.pending_tokens += work.tokens


def _unexpect(work: Work) -> None:
    """Steps of a lane land in order, and only the one that reaches the end of the input samples."""
    sequence = work.sequence
    reached = sequence.computed_tokens + work.tokens >= sequence.total_tokens
    sequence.pending_output -= reached and sequence.pending_output > 0
    sequence.pending_tokens -= work.tokens
