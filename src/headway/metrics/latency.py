"""Latencies of requests, from the recorder's columns, and how a distribution becomes a few numbers.

The keys are those of `vllm bench serve`: mean, median, std and percentiles of ttft, tpot, itl and
e2el in ms.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from headway.core import NS_PER_MS
from headway.metrics.histogram import Floats, Ints, LogHistogram

PERCENTILES = (50, 90, 95, 99)

STATISTICS = {
    "mean": "Mean",
    "median": "Median",
    "std": "Standard deviation",
    **{f"p{percent}": f"{percent}th percentile" for percent in PERCENTILES},
}

DEFINITIONS = {
    "ttft": (
        (
            "Time to first token: arrival (as scheduled by the workload, not as sent) to first "
            "output token; over finished requests."
        ),
        "ms",
    ),
    "tpot": (
        (
            "Time per output token after the first: (last token - first token) / (output "
            "tokens - 1), per request; over finished requests with at least 2 output tokens. "
            "Not GuideLLM's TPOT, which includes the first token."
        ),
        "ms",
    ),
    "tpot_undefined": (
        "Finished requests with fewer than 2 output tokens: they have no TPOT.",
        "requests",
    ),
    "e2el": ("End-to-end latency: arrival to last output token; over finished requests.", "ms"),
    "queue_delay": (
        "Arrival to the first step the request took part in; over all requests that started.",
        "ms",
    ),
}

Columns = Mapping[str, Ints]


def ttft_ns(finished: Columns) -> Ints:
    """Arrival to first token, of finished requests that have one."""
    some = finished["first"] >= 0
    return (finished["first"] - finished["arrival"])[some]


def tpot_ns(finished: Columns) -> Floats:
    """(last - first) / (output - 1), of finished requests with at least two output tokens."""
    several = finished["output"] > 1
    return (finished["last"] - finished["first"])[several] / (finished["output"][several] - 1)


def e2el_ns(finished: Columns) -> Ints:
    """Arrival to last token, of finished requests that have one."""
    some = finished["last"] >= 0
    return (finished["last"] - finished["arrival"])[some]


def queue_delay_ns(ended: Columns) -> Ints:
    """Arrival to first step, of all requests whose first step is known."""
    some = ended["started"] >= 0
    return (ended["started"] - ended["arrival"])[some]


def statistics(name: str, values_ns: Ints | Floats) -> dict[str, float | None]:
    """Summarise raw values under keys like `p99_ttft_ms`; all null when there are none."""
    if not len(values_ns):
        return _named(name, [None] * len(STATISTICS))
    shares = [percent / 100 for percent in PERCENTILES]
    ordered = np.sort(values_ns)  # so that sums do not depend on the order of ends
    numbers = [
        ordered.mean(),
        np.quantile(ordered, 0.5),
        ordered.std(),
        *np.quantile(ordered, shares),
    ]
    return _named(name, [float(number) for number in numbers])


def statistics_of(name: str, histogram: LogHistogram | None) -> dict[str, float | None]:
    """Summarise a histogram under the same keys; all null when there is none, or when it is empty."""
    if histogram is None:
        return _named(name, [None] * len(STATISTICS))
    quantiles = histogram.quantiles_ns([percent / 100 for percent in PERCENTILES])
    return _named(name, [histogram.mean_ns, quantiles[0], histogram.std_ns, *quantiles])


def _named(name: str, numbers_ns: list[float | None]) -> dict[str, float | None]:
    return {
        f"{statistic}_{name}_ms": None if number is None else round(number / NS_PER_MS, 6)
        for statistic, number in zip(STATISTICS, numbers_ns, strict=True)
    }
