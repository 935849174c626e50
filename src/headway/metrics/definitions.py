"""What every key of a summary means; each definition is written beside the code that computes it."""

from __future__ import annotations

from headway.metrics import fairness, gaps, latency, saturation, summary, targets

Definition = tuple[str, str]
"""(one or two sentences, unit)"""

DISTRIBUTIONS = ("ttft", "tpot", "itl", "e2el", "queue_delay")


def base_definitions() -> dict[str, Definition]:
    """Name -> (definition, unit), a distribution once: for tables that people read."""
    return {
        **targets.DEFINITIONS,
        **{name: (latency.DEFINITIONS | gaps.DEFINITIONS)[name] for name in DISTRIBUTIONS},
        "tpot_undefined": latency.DEFINITIONS["tpot_undefined"],
        **summary.DEFINITIONS,
        **saturation.DEFINITIONS,
        **fairness.DEFINITIONS,
    }


def definitions() -> dict[str, Definition]:
    """Name -> (definition, unit) for every key of a summary, `p99_ttft_ms` and the like included."""
    base = base_definitions()
    return base | {
        f"{statistic}_{name}_ms": (f"{words} of {name}. {base[name][0]}", "ms")
        for name in DISTRIBUTIONS
        for statistic, words in latency.STATISTICS.items()
    }
