"""Flover: speed-up with random arrivals over static batching (Yao et al., HiPC 2023)."""

from __future__ import annotations

from functools import partial

from headway.api import Scenario
from headway.api.runner import run
from headway.api.scenario import Parts
from headway.core.protocols import Workload
from headway.reproductions.experiment import Experiment
from headway.workload import AtOnce, Fixed, Independent, Poisson, Synthetic, Uniform

BASE = Scenario(model="llama-2-7b", gpu="a100")
REQUESTS, BATCH = 200, 16
RATE_RPS = 2.0  # below what static batching holds: 16 requests in about 7 s


def _random(seed: int) -> Workload:
    """Gaps of CV 1, prompts alike, outputs of very different length: the paper's varied intervals and lengths."""
    return Synthetic(
        Poisson(RATE_RPS), Independent(Uniform(64, 256), Uniform(16, 512)), REQUESTS, seed
    )


def _together(seed: int) -> Workload:
    return Synthetic(AtOnce(), Independent(Fixed(128), Fixed(128)), BATCH, seed)


def _mean_e2e_ms(seed: int, *, batching: str, null: bool = False, ordering: str = "fcfs") -> float:
    options = {"batching.batch": BATCH} if batching == "static_batching" else {}
    if batching == "flover":
        options = {"batching.rows": BATCH}
    scenario = BASE.at(batching=batching, ordering=ordering, seed=seed, options=options)
    workload = _together(seed) if null else _random(seed)
    return float(run(scenario, Parts(workload=workload)).summary["mean_e2el_ms"])


EXPERIMENT = Experiment(
    ours=partial(_mean_e2e_ms, batching="flover"),
    baseline=partial(_mean_e2e_ms, batching="static_batching"),
    strong=partial(_mean_e2e_ms, batching="sarathi", ordering="earliest_deadline"),
    null_ours=partial(_mean_e2e_ms, batching="flover", null=True),
    null_baseline=partial(_mean_e2e_ms, batching="static_batching", null=True),
    higher_is_better=False,
    setup="llama-2-7b on one A100, 16 rows, Poisson arrivals at 2 requests/s, outputs of 16 to 512 tokens; mean E2E",
    null_setup="16 requests at once, all of 128 and 128 tokens",
    ablations={"prefill_first": partial(_mean_e2e_ms, batching="prefill_first")},
    differs=("paged KV: no rows are moved together when one ends",),
)
