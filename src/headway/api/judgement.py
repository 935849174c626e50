"""What a run was worth, request by request, from nothing but arrivals, promises and token times.

The same lines judge a measured run and a replayed one, so that a difference between them is one of times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headway.api.replay import Case, TokenTimes
from headway.core import NS_PER_MS, NS_PER_S, Slo

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

METRICS = {
    "p50_ttft_ms": ("TTFT p50", "ms"),
    "p99_ttft_ms": ("TTFT p99", "ms"),
    "p50_tpot_ms": ("TPOT p50", "ms"),
    "p99_tpot_ms": ("TPOT p99", "ms"),
    "p50_itl_ms": ("ITL p50", "ms"),
    "p99_itl_ms": ("ITL p99", "ms"),
    "p50_e2el_ms": ("E2E p50", "ms"),
    "p99_e2el_ms": ("E2E p99", "ms"),
    "request_goodput": ("goodput", "requests/s"),
    "slo_attainment": ("SLO attainment", "share"),
    "request_throughput": ("throughput", "requests/s"),
    "output_throughput": ("output throughput", "tokens/s"),
}
"""Name in JSON -> (name in a table, unit)."""


@dataclass(frozen=True)
class Judged:
    """One row per judged request in order of arrival; -1 where it has no such number."""

    ttft_ns: Ints
    tpot_ns: Floats
    e2e_ns: Ints
    output_tokens: Ints  # that came out
    attained: npt.NDArray[np.bool_]
    gaps_ns: Ints  # of all requests, one after the other
    gap_starts: Ints  # index of a request's first gap, and one end more
    seconds: float  # first arrival to last token

    def metrics(self, rows: Ints | None = None) -> dict[str, float]:
        """All of `METRICS`, of all requests or of those given (repeats count); NaN when there is nothing."""
        rows = np.arange(len(self.ttft_ns)) if rows is None else rows
        finished = self.ttft_ns[rows] >= 0
        told: dict[str, float] = {}
        samples: dict[str, Floats | Ints] = {
            "ttft": self.ttft_ns[rows][finished],
            "tpot": self.tpot_ns[rows][self.tpot_ns[rows] >= 0],
            "itl": self._gaps(rows),
            "e2el": self.e2e_ns[rows][finished],
        }
        for name, values in samples.items():
            for percent in (50, 99):
                told[f"p{percent}_{name}_ms"] = (
                    float(np.quantile(values, percent / 100)) / NS_PER_MS if len(values) else np.nan
                )
        rate = len(self.ttft_ns) / self.seconds
        told["request_goodput"] = float(self.attained[rows].mean()) * rate
        told["slo_attainment"] = float(self.attained[rows].mean())
        told["request_throughput"] = float(finished.mean()) * rate
        told["output_throughput"] = float(self.output_tokens[rows].mean()) * rate
        return {name: told[name] for name in METRICS}

    def _gaps(self, rows: Ints) -> Ints:
        starts, ends = self.gap_starts[rows], self.gap_starts[rows + 1]
        if len(rows) == len(self.ttft_ns) and (rows == np.arange(len(rows))).all():
            return self.gaps_ns
        pieces = [self.gaps_ns[low:high] for low, high in zip(starts, ends, strict=True)]
        return np.concatenate(pieces) if pieces else self.gaps_ns[:0]


def judge(cases: Seq[Case], times: TokenTimes) -> Judged:
    """Judge the requests that count; one without token times never finished, and missed."""
    judged = sorted(
        (c for c in cases if c.judged), key=lambda c: (c.request.arrival_ns, c.request.id)
    )
    ttft, tpot, e2e, output, attained, starts = [], [], [], [], [], [0]
    gaps: list[Ints] = []
    last_ns = 0
    for case in judged:
        mine, request = times.get(case.request.id, []), case.request
        output.append(len(mine))
        clock = np.array(mine, np.int64)
        own: Ints = clock[1:] - clock[:-1]
        gaps.append(own)
        starts.append(starts[-1] + len(own))
        if not mine:
            ttft.append(-1)
            tpot.append(-1.0)
            e2e.append(-1)
            attained.append(False)
            continue
        first, last = mine[0], mine[-1]
        last_ns = max(last_ns, last)
        ttft.append(first - request.arrival_ns)
        e2e.append(last - request.arrival_ns)
        tpot.append((last - first) / (len(mine) - 1) if len(mine) > 1 else -1.0)
        attained.append(
            attains(request.slo, ttft[-1], tpot[-1], e2e[-1], own) and _in_time(case, mine)
        )
    seconds = (last_ns - min(c.request.arrival_ns for c in judged)) / NS_PER_S if last_ns else 1.0
    return Judged(
        np.array(ttft, np.int64),
        np.array(tpot, np.float64),
        np.array(e2e, np.int64),
        np.array(output, np.int64),
        np.array(attained, np.bool_),
        np.concatenate(gaps),
        np.array(starts, np.int64),
        seconds,
    )


def attains(slo: Slo, ttft_ns: int, tpot_ns: float, e2e_ns: int, gaps_ns: Ints) -> bool:
    """Does a finished request meet the targets that are set? As `metrics.targets` judges."""
    ends = [end for end in (slo.e2e_ns, slo.deadline_ns) if end is not None]
    if slo.ttft_ns is not None and ttft_ns > slo.ttft_ns:
        return False
    if slo.tpot_ns is not None and tpot_ns > slo.tpot_ns:
        return False
    if ends and e2e_ns > min(ends):
        return False
    if slo.itl_p99_ns is not None and len(gaps_ns):
        need = -(-99 * len(gaps_ns) // 100)
        return int(np.sort(gaps_ns)[need - 1]) <= slo.itl_p99_ns
    return True


def _in_time(case: Case, times: Seq[int]) -> bool:
    """At most the promised share of units came after their own due time."""
    permille = case.request.slo.late_permille
    if permille is None:
        return True
    late = 0
    for unit, time_ns in enumerate(times):
        due_ns = case.request.due_ns(unit)
        late += due_ns is not None and time_ns > due_ns
    return late * 1000 <= permille * len(times)


def relative(value: Mapping[str, float], to: Mapping[str, float]) -> dict[str, float]:
    """Each metric over that of another run, less 1; NaN where that is 0 or missing."""
    return {
        name: value[name] / to[name] - 1 if to[name] and to[name] == to[name] else np.nan
        for name in METRICS
    }
