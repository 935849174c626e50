"""Sarathi-Serve: capacity under a p99 ITL SLO (Agrawal et al., OSDI 2024)."""

from __future__ import annotations

from functools import partial

from headway.api import Scenario
from headway.api.runner import run
from headway.reproductions.capacity_of import capacity_of
from headway.reproductions.experiment import Experiment

BASE = Scenario(
    model="mistral-7b",
    gpu="a100",
    requests=240,
    slo=("itl_p99=75ms",),  # 5 x the median decode step of a busy batch
    options={},
)
"""Conversation-like lengths."""


def _attainment(scenario: Scenario, seed: int, rate: float) -> float:
    summary = run(scenario.at(seed=seed, rate_rps=rate)).summary
    return summary["slo_attainment"] or 0.0


def _capacity(seed: int, *, batching: str, ordering: str = "fcfs") -> float:
    scenario = BASE.at(batching=batching, ordering=ordering)
    return capacity_of(partial(_attainment, scenario, seed), first=4.0)


def _throughput(seed: int, *, batching: str) -> float:
    """All prompts fit a chunk and nobody promised an ITL: only the work itself is left."""
    scenario = BASE.at(batching=batching, slo=("ttft=1000s",), max_tokens=64, rate_rps=40.0)
    return float(run(scenario.at(seed=seed)).summary["request_throughput"])


EXPERIMENT = Experiment(
    ours=partial(_capacity, batching="sarathi"),
    baseline=partial(_capacity, batching="prefill_first"),
    strong=partial(_capacity, batching="sarathi", ordering="earliest_deadline"),
    null_ours=partial(_throughput, batching="sarathi"),
    null_baseline=partial(_throughput, batching="prefill_first"),
    higher_is_better=True,
    setup="mistral-7b on one A100, 240 conversation-like requests, p99 ITL at most 75 ms for 90 % of them",
    null_setup="no ITL promised; throughput",
)
