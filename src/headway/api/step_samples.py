"""From a run log to what a fit can use: the shape of every step, how long it took, and the gaps between them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from headway.core.plan import DONE
from headway.records import RunLog, Stepped
from headway.timing.profile_shape import Shape, shape_of


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


def samples_of(log: RunLog) -> Samples:
    """Read the steps of a log."""
    kept, left_out = [], 0
    several = len({step.lane for step in log.steps}) > 1
    ends: dict[str, int] = {}
    beside = _beside(log.steps) if several else frozenset()
    for index, step in enumerate(log.steps):
        ends[step.lane] = step.end_ns
        whole = all(work.first_layer == 0 and work.last_layer == -1 for work in step.works)
        if step.status != DONE or not whole or not step.works or index in beside:
            left_out += 1
            continue
        duration_ns = step.end_ns - step.start_ns
        if duration_ns <= 0:
            left_out += 1
            continue
        kept.append(Sample(shape_of_line(step), duration_ns, step.start_ns))
    gaps = list(_gaps(log))
    return Samples(kept, float(np.median(gaps)) if gaps else 0.0, len(gaps), left_out)


def shape_of_line(step: Stepped) -> Shape:
    """The shape of a logged step; drafts are verified by a row each, wherever the works end."""
    return shape_of(
        (work.tokens, work.context, work.draft_tokens + 1 if work.emitted else 0)
        for work in step.works
    )


def _gaps(log: RunLog) -> Iterable[int]:
    """Between a step and the next of its lane that goes on with one of its sequences: nobody was idle."""
    last: dict[str, Stepped] = {}
    for step in log.steps:
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
