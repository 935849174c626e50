"""FlowPrefill: goodput under heterogeneous TTFT SLOs on prefill instances."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from headway.api import Scenario
from headway.api.runner import run
from headway.api.scenario import Parts
from headway.core import NS_PER_MS, Slo
from headway.core.protocols import Workload
from headway.reproductions.capacity_of import capacity_of
from headway.reproductions.experiment import Experiment
from headway.workload import Fixed, Independent, LogNormal, Merged, Poisson, Synthetic

BASE = Scenario(model="llama-3.1-8b", gpu="a100", options={})
REQUESTS = 240
# class: (share of requests, TTFT SLO in ms, median and mean prompt tokens)
CLASSES = {
    "text": (0.6, 250, 300, 500),
    "image": (0.25, 500, 800, 1000),
    "search": (0.1, 4000, 6000, 7000),
    "file": (0.05, 6000, 12_000, 14_000),
}
CHUNKED = {"sarathi.token_budget": 2048}


def _mixed(seed: int, rate: float) -> Workload:
    parts: list[Workload] = []
    for number, (name, (share, ttft_ms, median, mean)) in enumerate(CLASSES.items()):
        slo = Slo(name, ttft_ns=ttft_ms * NS_PER_MS)
        shapes = Independent(LogNormal.of(median, mean, most=30_000), Fixed(1))
        count = round(REQUESTS * share)
        parts.append(Synthetic(Poisson(rate * share), shapes, count, seed * 10 + number, slo))
    return Merged(parts)


def _alike(seed: int, rate: float) -> Workload:
    slo = Slo("text", ttft_ns=500 * NS_PER_MS)
    shapes = Independent(Fixed(1000), Fixed(1))
    return Synthetic(Poisson(rate), shapes, REQUESTS, seed, slo)


def _capacity(
    seed: int,
    *,
    batching: str,
    ordering: str = "fcfs",
    options: Mapping[str, Any] | None = None,
    alike: bool = False,
) -> float:
    scenario = BASE.at(batching=batching, ordering=ordering, options=options or {})
    make = _alike if alike else _mixed

    def attainment(rate: float) -> float:
        summary = run(scenario, Parts(workload=make(seed, rate))).summary
        return summary["slo_attainment"] or 0.0

    return capacity_of(attainment, first=4.0)


EXPERIMENT = Experiment(
    ours=partial(_capacity, batching="flowprefill"),
    baseline=partial(_capacity, batching="sarathi", options=CHUNKED),
    strong=partial(_capacity, batching="sarathi", ordering="earliest_deadline", options=CHUNKED),
    null_ours=partial(_capacity, batching="flowprefill", alike=True),
    null_baseline=partial(_capacity, batching="sarathi", options=CHUNKED, alike=True),
    higher_is_better=True,
    setup="llama-3.1-8b on one A100 that only prefills; four classes with TTFT SLOs of 0.25, 0.5, 4 and 6 s and "
    "prompts of about 500 to 14,000 tokens; highest rate with 90 % attainment",
    null_setup="prompts of 1,000 tokens, one SLO of 0.5 s",
    ablations={
        "edf_512": partial(
            _capacity,
            batching="sarathi",
            ordering="earliest_deadline",
            options={"sarathi.token_budget": 512},
        )
    },
    differs=("boundaries are layers", "lengths and shares of the classes are ours"),
)
