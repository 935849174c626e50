"""Llumnix: p99 TTFT under fragmentation, with and without live migration (Sun et al., OSDI 2024)."""

from __future__ import annotations

from functools import partial

from headway.api import Scenario
from headway.api.runner import run
from headway.api.scenario import Parts
from headway.reproductions.experiment import Experiment
from headway.workload import Fixed, Independent, LogNormal, Poisson, Synthetic

BASE = Scenario(
    model="llama-2-7b", gpu="a10", instances=16, batching="prefill_first", slo=("none",)
)
REQUESTS = 2000
# Their "long" lengths: mean 512, most 6,000, heavy tails. At this rate dispatch alone keeps the median TTFT near the
# time of a prefill while its p99 is minutes: somebody waits where memory is short and others have room.
TAIL, RATE_RPS = LogNormal.of(180, 512, 6000), 8.0


def _p99_ttft_ms(
    seed: int, *, control: str, routing: str = "llumnix", fixed: bool = False
) -> float:
    lengths = Independent(Fixed(512), Fixed(512)) if fixed else Independent(TAIL, TAIL)
    workload = Synthetic(Poisson(RATE_RPS), lengths, REQUESTS, seed)
    scenario = BASE.at(control=control, routing=routing, seed=seed)
    return float(run(scenario, Parts(workload=workload)).summary["p99_ttft_ms"])


EXPERIMENT = Experiment(
    ours=partial(_p99_ttft_ms, control="llumnix"),
    baseline=partial(_p99_ttft_ms, control="none"),
    strong=partial(_p99_ttft_ms, control="none", routing="least_work"),
    null_ours=partial(_p99_ttft_ms, control="llumnix", fixed=True),
    null_baseline=partial(_p99_ttft_ms, control="none", fixed=True),
    higher_is_better=False,
    setup="16 instances of llama-2-7b on A10, 2,000 Poisson requests at 8/s, prompts and outputs heavy-tailed "
    "(lognormal, median 180, mean 512, most 6,000)",
    null_setup="every prompt and every output 512 tokens",
    differs=("lognormal lengths in place of their power law, which is given by its percentiles",),
)
