"""Did a request meet its SLO? Judged once, when it ends, in whole nanoseconds."""

from __future__ import annotations

from array import array
from collections.abc import Sequence as Seq

from headway.core import Request, Sequence, Slo

TARGETS = ("ttft", "tpot", "itl_p99", "e2e", "deadline", "late")
"""Names of the targets; bit i of a mask of misses is `TARGETS[i]`."""

_TTFT, _TPOT, _ITL_P99, _E2E, _DEADLINE, _LATE = (1 << bit for bit in range(len(TARGETS)))

DEFINITIONS = {
    "slo_attainment": (
        (
            "Finished requests that met all their SLO targets / all requests offered: "
            "rejected, shed, failed, aborted, returned and unfinished requests are misses. "
            "Without targets, finishing is enough. A target that is undefined for a request "
            "(TPOT or ITL of fewer than 2 tokens) counts as met."
        ),
        "share",
    ),
    "attained": ("Requests that attained their SLO.", "requests"),
    "slo_misses": (
        (
            "Why requests missed: by target for finished requests (one request may miss "
            "several), by outcome for the others. itl_p99 is the smallest gap that 99 % of the "
            "request's own gaps do not exceed; late is the share of output units after their "
            "own due time."
        ),
        "requests",
    ),
    "slo": ("Targets of each SLO class; null when its requests differ.", "ms"),
}


class Track:
    """What the SLO of one request needs to know of each token; kept only for requests that ask."""

    __slots__ = ("counts", "gaps", "late", "units", "wants_gaps", "wants_late")

    def __init__(self, slo: Slo) -> None:
        self.wants_gaps = slo.itl_p99_ns is not None
        self.wants_late = slo.late_permille is not None
        self.gaps = array("q")
        self.counts = array("q")
        self.units = 0
        self.late = 0

    def on_units(self, sequence: Sequence, ends_ns: Seq[int], emitted: int) -> None:
        """Units came out: one at each end (a leap), or all at the only end. Before progress is applied."""
        leap = len(ends_ns) > 1
        if self.wants_gaps:
            last = sequence.last_token_ns
            for end in ends_ns if leap else ends_ns[:1]:
                if last >= 0:
                    self.gaps.append(end - last)
                    self.counts.append(1)
                last = end
            if not leap and emitted > 1:
                self.gaps.append(0)
                self.counts.append(emitted - 1)
        if self.wants_late:
            due_ns = sequence.request.due_ns
            for unit in range(emitted):
                due = due_ns(sequence.output_tokens + unit)
                self.units += 1
                self.late += due is not None and ends_ns[unit if leap else 0] > due

    def itl_p99_ns(self) -> int | None:
        """Smallest gap that at least 99 % of the gaps do not exceed; None without gaps."""
        runs = sorted(zip(self.gaps, self.counts, strict=True))
        need = -(-99 * sum(self.counts) // 100)
        for gap, count in runs:
            need -= count
            if need <= 0:
                return gap
        return None


def missed_targets(request: Request, sequence: Sequence, end_ns: int, track: Track | None) -> int:
    """Return the mask of targets that a finished request missed.

    A request that finished without output is judged by its end.
    """
    slo = request.slo
    arrival = request.arrival_ns
    first, last, output = sequence.first_token_ns, sequence.last_token_ns, sequence.output_tokens
    if last < 0:
        first = last = end_ns
    missed = 0
    if slo.ttft_ns is not None and first - arrival > slo.ttft_ns:
        missed |= _TTFT
    if slo.tpot_ns is not None and output > 1 and last - first > slo.tpot_ns * (output - 1):
        missed |= _TPOT
    if slo.e2e_ns is not None and last - arrival > slo.e2e_ns:
        missed |= _E2E
    if slo.deadline_ns is not None and last - arrival > slo.deadline_ns:
        missed |= _DEADLINE
    if track is not None:
        if slo.itl_p99_ns is not None and (track.itl_p99_ns() or 0) > slo.itl_p99_ns:
            missed |= _ITL_P99
        if slo.late_permille is not None and track.late * 1000 > slo.late_permille * track.units:
            missed |= _LATE
    return missed
