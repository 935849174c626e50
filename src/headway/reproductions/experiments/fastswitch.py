"""FastSwitch: tail TTFT when priorities rotate over multi-turn conversations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from statistics import geometric_mean
from typing import Any

from headway.api import Scenario
from headway.api.runner import run
from headway.api.scenario import Parts
from headway.core.protocols import Workload
from headway.reproductions.experiment import Experiment
from headway.workload import Independent, LogNormal, Poisson, Sessions, Think

RATES_RPS = (
    0.25,
    0.3,
    0.35,
    0.4,
)  # of sessions, 5.7 turns each: from first preemptions to overload
SESSIONS = 60
EVERYBODY = 40_000  # KV blocks that all sessions together do not fill
BASE = Scenario(model="llama-3.1-8b", gpu="a10", ordering="rotating_priority", slo=("none",))
WAITS = {"fastswitch.asynchronous_from": 1 << 30}


def _workload(seed: int, rate: float) -> Workload:
    """Turns about as long as ShareGPT's; users answer after some ten seconds."""
    shapes = Independent(LogNormal.of(120, 230, 2048), LogNormal.of(160, 220, 1024))
    turns = LogNormal(median=4.5, sigma=0.7, most=20)
    return Sessions(
        Poisson(rate),
        turns=turns,
        shapes=shapes,
        think=Think(2.3, 0.8),
        sessions=SESSIONS,
        context_tokens=6000,
        seed=seed,
    )


def _p99_ttft_ms(
    seed: int,
    *,
    memory: str,
    options: Mapping[str, Any] | None = None,
    ordering: str = "rotating_priority",
    kv_blocks: int | None = None,
) -> float:
    """Geometric mean over the rates: at one rate alone few requests make the p99."""
    scenario = BASE.at(memory=memory, ordering=ordering, options=options or {}, kv_blocks=kv_blocks)
    tails = [
        float(run(scenario, Parts(workload=_workload(seed, rate))).summary["p99_ttft_ms"])
        for rate in RATES_RPS
    ]
    return geometric_mean(tails)


EXPERIMENT = Experiment(
    ours=partial(_p99_ttft_ms, memory="fastswitch"),
    baseline=partial(_p99_ttft_ms, memory="swap_blocks"),
    strong=partial(_p99_ttft_ms, memory="swap", ordering="earliest_deadline"),
    null_ours=partial(_p99_ttft_ms, memory="fastswitch", kv_blocks=EVERYBODY),
    null_baseline=partial(_p99_ttft_ms, memory="swap_blocks", kv_blocks=EVERYBODY),
    higher_is_better=False,
    setup="llama-3.1-8b on one A10 (KV for 31,000 tokens), 60 sessions of 5.7 turns, priorities drawn anew every 25 "
    "steps; p99 TTFT, geometric mean over 0.25, 0.3, 0.35 and 0.4 new sessions/s",
    null_setup="KV for 640,000 tokens: nobody is preempted",
    ablations={
        "extents": partial(
            _p99_ttft_ms,
            memory="fastswitch",
            options=WAITS | {"fastswitch.incremental": False},
        ),
        "extents_async": partial(
            _p99_ttft_ms, memory="fastswitch", options={"fastswitch.incremental": False}
        ),
        "gathered_swap": partial(_p99_ttft_ms, memory="swap"),
        "baseline_recomputes_turns": partial(
            _p99_ttft_ms, memory="swap_blocks", options={"swap_blocks.keeps_turns": False}
        ),
    },
    differs=(
        "a copy's launch costs 8 µs, and there are two in each layer",
        "the baseline keeps KV between turns on the host too: it fares better so",
        "the strong baseline has no rotating priorities: first come, first served, with asynchronous swap",
    ),
)
