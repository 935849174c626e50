"""LAPS: prefill latency of conversations on an instance that only prefills."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from headway.api import Scenario
from headway.api.runner import run
from headway.api.scenario import Parts
from headway.core import NS_PER_MS, Slo
from headway.core.protocols import Workload
from headway.reproductions.experiment import Experiment
from headway.timing import EagerChunks, load_device, load_model
from headway.workload import Fixed, LogNormal, Poisson, Sessions, Synthetic, Think
from headway.workload.shapes import Independent

MODEL, GPU = "qwen2.5-32b", "h200"
SESSIONS, TURNS, RATE_RPS = 60, 5, 2.0  # sessions/s
SLO = Slo("turn", ttft_ns=400 * NS_PER_MS)
LONG, SHORT = LogNormal.of(2000, 2500, most=12_000), LogNormal.of(80, 110, most=256)


@dataclass(frozen=True)
class _FirstLong:
    """A long first turn and short ones after it, without output: somebody else decodes."""

    def pairs(self, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
        """Turns of one session after the other."""
        longs, shorts = rng.spawn(2)
        first, later = LONG.draws(longs), SHORT.draws(shorts)
        while True:
            yield next(first), 1
            for _ in range(TURNS - 1):
                yield next(later), 1


def _conversations(seed: int, rate: float) -> Workload:
    return Sessions(
        Poisson(rate),
        turns=Fixed(TURNS),
        shapes=_FirstLong(),
        think=Think(mu=1.0, sigma=0.8),
        sessions=SESSIONS,
        seed=seed,
        slo=SLO,
        max_tokens=1,
    )


def _alike(seed: int, rate: float) -> Workload:
    shapes = Independent(Fixed(512), Fixed(1))
    return Synthetic(Poisson(rate * TURNS), shapes, SESSIONS * TURNS, seed, SLO, max_tokens=1)


def _ttft_ms(
    seed: int,
    *,
    batching: str,
    ordering: str = "fcfs",
    options: Mapping[str, Any] | None = None,
    alike: bool = False,
    rate: float = RATE_RPS,
) -> float:
    scenario = Scenario(
        model=MODEL, gpu=GPU, batching=batching, ordering=ordering, options=options or {}, seed=seed
    )
    timing = EagerChunks(load_model(MODEL), load_device(GPU))
    workload = (_alike if alike else _conversations)(seed, rate)
    summary = run(scenario, Parts(timing=timing, workload=workload)).summary
    return float(summary["mean_ttft_ms"])


FCFS = {"sarathi.token_budget": 1024}  # as much as a chunk of a long prompt in ours
EXPERIMENT = Experiment(
    ours=partial(_ttft_ms, batching="laps"),
    baseline=partial(_ttft_ms, batching="sarathi", options=FCFS),
    strong=partial(_ttft_ms, batching="sarathi", ordering="shortest_prompt", options=FCFS),
    null_ours=partial(_ttft_ms, batching="laps", alike=True),
    null_baseline=partial(_ttft_ms, batching="sarathi", options=FCFS, alike=True),
    higher_is_better=False,
    setup="qwen2.5-32b on one H200 that only prefills and keeps prefixes; 60 conversations at 2 a second, a first turn "
    "of about 2,500 tokens and four of about 110 new ones, TTFT SLO 0.4 s; prompts that are not captured pay the "
    "launch of each kernel; both compute 1,024 tokens of a long prompt a step; mean TTFT",
    null_setup="prompts of 512 tokens without prefixes, as many a second",
    ablations={
        "no_window": partial(
            _ttft_ms, batching="laps", options={"laps.most_wait_ms": 0, "laps.least_wait_ms": 0}
        ),
        "no_padding": partial(_ttft_ms, batching="laps", options={"laps.most_padding": 0}),
        "always_padded": partial(_ttft_ms, batching="laps", options={"laps.most_padding": 4}),
        "fcfs_2048": partial(_ttft_ms, batching="sarathi", options={"sarathi.token_budget": 2048}),
    },
    differs=(
        "one instance serves both classes by turns: nothing moves instances between pools",
        "synthetic conversations in place of LMSYS-Chat-1M and ShareGPT",
    ),
)
