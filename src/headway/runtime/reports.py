"""What an instance says of itself: read off its books when a report goes out, never kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headway.core.fleet import Report

if TYPE_CHECKING:
    from headway.runtime.instance import Instance

MOST_LISTED = 64  # requests in a report's lists


def report_of(instance: Instance) -> Report:
    """Of books that are settled. Costs O(waiting), and of running only those that prefill or are listed."""
    queues, pool, leaving = instance.queues, instance.pool, instance.moves.exports.open
    waiting, size = queues.waiting, pool.block_tokens
    lefts = [s.total_tokens - s.computed_tokens for s in waiting]
    needs = [-(-s.total_tokens // size) for s in waiting]  # who waits holds none
    movable = [(s.id, len(s.blocks)) for s in queues.decoding[: -MOST_LISTED - 1 : -1]]
    if leaving:
        movable = [item for item in movable if item[0] not in leaving]
    if instance.streams:
        movable = [item for item in movable if not _is_stream(instance, item[0])]
    computing = [s.total_tokens - s.computed_tokens for s in queues.prefilling]
    return Report(
        instance.clock.now_ns(),
        len(instance.sequences),
        instance.prompt_tokens,
        len(waiting),
        pool.free,
        pool.total,
        str(instance.stopped or ""),
        running=len(queues.running),
        queued_tokens=sum(lefts) + sum(computing),
        head_blocks=needs[0] if needs else 0,
        waiting_blocks=sum(needs),
        preemptions=instance.preemptions,
        queued=tuple((s.id, left) for s, left in zip(waiting[:MOST_LISTED], lefts, strict=False)),
        movable=tuple(movable),
    )


def _is_stream(instance: Instance, request_id: int) -> bool:
    return instance.sequences[request_id].request.stage.period_ns > 0
