"""From a run log to what a fit can use: the shape of every step, how long it took, and the gaps between them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from headway.core.plan import DONE
from headway.errors import WorkloadError
from headway.records import RunLog, Stepped
from headway.timing.profile_shape import Shape, shape_of

_NEVER = 1 << 62


class Sample(NamedTuple):
    """One step that ran through."""

    shape: Shape
    duration_ns: int
    start_ns: int


@dataclass(frozen=True)
class Samples:
    """Steps in the order they landed, and the median gap between two steps when there was work all along."""

    steps: list[Sample]
    gap_ns: float
    gaps: int  # that the median is of
    left_out: int  # interrupted, failed, of some layers only, or beside a step of another lane
    warming: int  # that began before the warm-up had ended


def samples_of(log: RunLog, warmup: int = 0) -> Samples:
    """Read the steps of a log, but for those that began before the first `warmup` requests had all ended.

    Raises:
        WorkloadError: no step is left.
    """
    warm_ns = _warm_ns(log, warmup)
    steps = [step for step in log.steps if step.start_ns >= warm_ns]
    if warmup and not steps:
        raise WorkloadError(
            f"all steps are of the first {warmup} requests, the warm-up: record a longer run, or leave out fewer"
        )
    kept, left_out = [], 0
    several = len({step.lane for step in steps}) > 1
    beside = _beside(steps) if several else frozenset()
    for index, step in enumerate(steps):
        whole = all(work.first_layer == 0 and work.last_layer == -1 for work in step.works)
        if step.status != DONE or not whole or not step.works or index in beside:
            left_out += 1
            continue
        duration_ns = step.end_ns - step.start_ns
        if duration_ns <= 0:
            left_out += 1
            continue
        kept.append(Sample(shape_of_line(step), duration_ns, step.start_ns))
    gaps = list(_gaps(steps))
    gap_ns = float(np.median(gaps)) if gaps else 0.0
    return Samples(kept, gap_ns, len(gaps), left_out, len(log.steps) - len(steps))


def _warm_ns(log: RunLog, warmup: int) -> int:
    """When the first so many requests had ended, whatever became of them; never, if one is still there."""
    if not warmup:
        return 0
    first = {line.id for line in log.submitted[:warmup]}
    ended = {line.id: line.now_ns for line in log.ended}
    return max((ended.get(one, _NEVER) for one in first), default=0)


def shape_of_line(step: Stepped) -> Shape:
    """The shape of a logged step; drafts are verified by a row each, wherever the works end."""
    return shape_of(
        (work.tokens, work.context, work.draft_tokens + 1 if work.emitted else 0)
        for work in step.works
    )


def _gaps(steps: list[Stepped]) -> Iterable[int]:
    """Between a step and the next of its lane that goes on with one of its sequences: nobody was idle."""
    last: dict[str, Stepped] = {}
    for step in steps:
        before = last.get(step.lane)
        if before is not None:
            went_on = {work.id for work in before.works} & {work.id for work in step.works}
            if went_on and step.start_ns >= before.end_ns:
                yield step.start_ns - before.end_ns
        last[step.lane] = step


def _beside(steps: list[Stepped]) -> frozenset[int]:
    """Indices of steps that shared the device with a step of another lane."""
    order = sorted(range(len(steps)), key=lambda index: steps[index].start_ns)
    found: set[int] = set()
    latest, latest_end = -1, -1
    for index in order:
        step = steps[index]
        if step.start_ns < latest_end and steps[latest].lane != step.lane:
            found |= {index, latest}
        if step.end_ns > latest_end:
            latest, latest_end = index, step.end_ns
    return frozenset(found)
