"""Earliest deadline first: by when the next output unit is due.

Chat is due by TTFT + k·TPOT, a deadline request by its deadline, unit k of a periodic stream by the end of its
period. Requests that were promised nothing come after all others, by arrival.

Source: Liu and Layland, "Scheduling Algorithms for Multiprogramming in a Hard-Real-Time Environment", JACM 1973.
Differs: jobs share a step instead of preempting each other; the order decides who gets tokens and blocks first.
"""

from dataclasses import dataclass
from typing import ClassVar

from headway.core import Sequence


@dataclass
class EarliestDeadline:
    """By the due time of the next unit."""

    dynamic: ClassVar[bool] = True

    def key(self, sequence: Sequence) -> tuple[float, ...]:
        """Due time (none: last), then arrival, then id."""
        request = sequence.request
        due_ns = request.due_ns(sequence.output_tokens)
        if due_ns is None:
            return (1, request.arrival_ns, request.id)
        return (0, due_ns, request.id)
