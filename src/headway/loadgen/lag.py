"""Is the generator itself fit to judge? How late requests left, and what tokens cost to receive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence as Seq
from typing import Any

import numpy as np

from headway.core import NS_PER_MS, Slo
from headway.loadgen.call import Call

_LEAST_LIMIT_NS = 5 * NS_PER_MS
_SHARE_OF_TTFT = 0.01

DEFINITIONS = {
    "generator_lag": (
        (
            "How late requests left: headers written - scheduled time (under a limit of concurrency "
            "with a rate: the moment a place was free), handshakes of new connections left out. "
            "Latencies count from the scheduled time and so contain it."
        ),
        "ms",
    ),
    "held": ("Scheduled time to the moment the limit of concurrency let a request go.", "ms"),
    "generator_fit": (
        (
            "Whether p99 of the lag is at most 5 ms or 1 % of the tightest TTFT target, whichever "
            "is more; otherwise the client was part of what it measured."
        ),
        "",
    ),
    "cpu_us_per_token": ("CPU time of the generator / output tokens received.", "µs"),
}


def lag_block(
    calls: Seq[Call], slos: Iterable[Slo | None], cpu_s: float, wall_s: float
) -> dict[str, Any]:
    """The generator's own numbers and the verdict on them, ready for JSON."""
    sent = [call for call in calls if call.sent_ns >= 0]
    lags = np.array([call.lag_ns for call in sent], np.float64)
    held = np.array([call.eligible_ns - call.request.arrival_ns for call in sent], np.float64)
    targets = [slo.ttft_ns for slo in slos if slo is not None and slo.ttft_ns is not None]
    limit_ns = max(_LEAST_LIMIT_NS, _SHARE_OF_TTFT * min(targets, default=0))
    p99_ns = float(np.quantile(lags, 0.99)) if len(lags) else 0.0
    tokens = sum(call.output_tokens or len(call.stamps) for call in calls)
    return {
        "fit": p99_ns <= limit_ns,
        "verdict": None if p99_ns <= limit_ns else _verdict(p99_ns, limit_ns),
        "lag_limit_ms": limit_ns / NS_PER_MS,
        **_statistics("lag", lags),
        **_statistics("held", held),
        "new_connections": sum(call.connect_ns > 0 for call in sent),
        "cpu_s": round(cpu_s, 6),
        "cpu_share": round(cpu_s / wall_s, 6) if wall_s else None,
        "cpu_us_per_token": round(1e6 * cpu_s / tokens, 3) if tokens else None,
    }


def _statistics(name: str, values_ns: np.typing.NDArray[np.float64]) -> dict[str, float | None]:
    if not len(values_ns):
        return dict.fromkeys((f"{name}_p50_ms", f"{name}_p99_ms", f"{name}_max_ms"))
    p50, p99, most = (
        float(value) / NS_PER_MS for value in np.quantile(values_ns, (0.5, 0.99, 1.0))
    )
    return {
        f"{name}_p50_ms": round(p50, 6),
        f"{name}_p99_ms": round(p99, 6),
        f"{name}_max_ms": round(most, 6),
    }


def _verdict(p99_ns: float, limit_ns: float) -> str:
    return (
        f"NOT FIT TO JUDGE: requests left up to {p99_ns / NS_PER_MS:.3g} ms late (p99), the limit is "
        f"{limit_ns / NS_PER_MS:.3g} ms; the generator was part of what it measured: lower the rate, or "
        "run it on a machine with more free CPU."
    )
