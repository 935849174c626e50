"""Is this plan executable? Checked against the instance's own books, not against the view's draft."""

from __future__ import annotations

from collections.abc import Sequence as Seq, Set as AbstractSet
from typing import TYPE_CHECKING

from headway.core.plan import StepPlan, Work
from headway.core.sequence import RUNNING, WAITING, Sequence
from headway.errors import PlanError
from headway.runtime.works import head_of

if TYPE_CHECKING:
    from headway.runtime.instance import Instance


def check_plan(instance: Instance, plan: StepPlan) -> None:
    """Refuse a plan for the first thing wrong with it. Changes nothing.

    Raises:
        PlanError: naming the policy, the value and the limit.
    """
    view, draft = instance.view, instance.view.draft
    if view.decodes_taken and not draft.taken and len(plan.work) == 1 and not plan.shed:
        ((lane, works),) = plan.work.items()
        if works is view.all_decodes and works and lane in view.idle_lanes:
            return  # exactly the decodes the view counted: most of a simulation
    free, moved = instance.pool.free, frozenset[Sequence]()
    if draft.moves:
        moved = frozenset((*draft.preempted, *draft.swapped_out, *draft.swapped_in))
        free += sum(instance.pool.private_blocks(s, draft.pinned) for s in draft.preempted)
        free -= sum(instance.pool.missing(s, s.computed_tokens) for s in draft.swapped_in)
    for sequence in plan.shed:
        gone = sequence.state not in (RUNNING, WAITING) or sequence in moved
        if sequence.owner is not instance or gone:
            raise _bad(instance, f"sheds {sequence!r}", "only waiting and running sequences")
    seen: set[Sequence] = set(plan.shed)
    for lane, works in plan.work.items():
        if lane not in view.idle_lanes:
            raise _bad(instance, f"work for lane {lane!r}", f"idle lanes: {list(view.idle_lanes)}")
        free -= _check_works(instance, lane, works, seen, moved)
    if free < 0:
        raise _bad(instance, f"{-free} KV blocks too many", f"the pool has {instance.pool.total}")
    computes = seen or any(plan.work.values())  # the view's decodes are not listed in `seen`
    if not computes and not moved and not _has_future(instance, plan):
        queues = instance.queues
        counts = f"{len(queues.running)} running, {len(queues.waiting)} waiting"
        raise _bad(instance, "stays idle while there is work", counts)


def _has_future(instance: Instance, plan: StepPlan) -> bool:
    """Will an event come that can change things?"""
    return bool(
        instance.busy or instance.moves.pending or instance.resting or plan.wake_at_ns is not None
    )


def _check_works(
    instance: Instance,
    lane: str,
    works: Seq[Work],
    seen: set[Sequence],
    moved: AbstractSet[Sequence],
) -> int:
    """Check a lane's works; returns the blocks they take from what is free."""
    size, tokens, taken = instance.pool.block_tokens, 0, 0
    matches, pinned = instance.view.draft.matches, set[object]()
    head = head_of(works, instance.view.all_decodes) if instance.view.decodes_taken else ()
    if head:
        tokens, taken = len(head), len(instance.view.growing)
        if seen and not seen.isdisjoint(head):
            raise _bad(instance, "a decode is in two places", "one lane, once a step")
    for work in works[len(head) :]:
        sequence = work.sequence
        state = sequence.state
        if (
            sequence.owner is not instance
            or (state not in (RUNNING, WAITING))
            or (moved and sequence in moved)
        ):
            raise _bad(
                instance, f"work for {sequence!r}", "only waiting and running, unmoved sequences"
            )
        if (
            sequence in seen
            or (head and sequence.decodes)
            or (sequence.leases and not instance.may_overlap(sequence, lane))
        ):
            raise _bad(instance, f"{sequence!r} is in two places", "one lane, once a step")
        seen.add(sequence)
        tokens += work.tokens
        start = sequence.computed_tokens
        held = sequence.capacity_tokens
        if sequence in matches:
            start = held = matches[sequence][-1].end_blocks * size
            fresh = [node for node in matches[sequence] if node not in pinned]
            pinned.update(fresh)
            taken += sum(len(node.blocks) for node in fresh if not node.holders)
        if work is not sequence.decode or sequence.partial:
            _check_chunk(instance, work, start - sequence.computed_tokens)
        reached = start + sequence.pending_tokens + work.tokens
        if sequence.denoises:
            reached = sequence.total_tokens
        if reached > held:
            taken += -(-reached // size) - held // size
    if tokens > instance.step_tokens:
        raise _bad(instance, f"{tokens} tokens in a step", f"at most {instance.step_tokens}")
    return taken


def _check_chunk(instance: Instance, work: Work, cached: int) -> None:
    sequence = work.sequence
    certain, remaining = work.tokens - work.draft_tokens, sequence.remaining_tokens - cached
    if sequence.denoises:
        if work.draft_tokens or work.tokens != sequence.denoise_tokens:
            limit = f"its denoising step has {sequence.denoise_tokens}"
            raise _bad(instance, f"{work.tokens} tokens for {sequence!r}", limit)
    elif not 0 < certain <= remaining:
        raise _bad(instance, f"{certain} tokens for {sequence!r}", f"{remaining} remain")
    first, last = work.layers or (0, instance.layers)
    if not 0 <= first < last <= instance.layers:
        raise _bad(instance, f"layers {work.layers} of {sequence!r}", f"0 to {instance.layers}")
    if sequence.partial:
        if (work.tokens, first) != sequence.partial:
            what = f"{work.tokens} tokens from layer {first} for {sequence!r}"
            raise _bad(instance, what, f"its chunk resumes at {sequence.partial} (tokens, layer)")
    elif first:
        raise _bad(
            instance, f"{sequence!r} starts at layer {first}", "a new chunk starts at layer 0"
        )


def _bad(instance: Instance, what: str, limit: str) -> PlanError:
    return PlanError(f"{type(instance.batching).__name__}: {what} ({limit})")
