"""Freeness: about how many steps an instance can go on before its memory is full, queued demand counted.

F = (M - sum of virtual usages) / B over the B requests that run: running ones use what they hold, those in the queue
what they lack; so F below 0 means that somebody waits for memory.

Source: Sun et al., "Llumnix: Dynamic Scheduling for Large Language Model Serving", OSDI 2024, and its artifact.
"""

from headway.core.fleet import Report


def freeness(
    report: Report, *, lacking_blocks: int, more: int = 0, reserved_blocks: float = 0.0
) -> float:
    """`lacking_blocks` is the demand of those who wait, as far as it counts; `more` requests join the running."""
    free = report.free_blocks - lacking_blocks - reserved_blocks
    return free / max(1, report.running + more)
