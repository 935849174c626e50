"""Dynamic SplitFuse: effective throughput with long prompts (Holmes et al., arXiv 2401.08671)."""

from __future__ import annotations

from functools import partial

from headway.api import Scenario
from headway.api.runner import run
from headway.api.scenario import Parts
from headway.core import NS_PER_MS, NS_PER_S, Slo
from headway.reproductions.experiment import Experiment
from headway.workload import ClosedLoop, Fixed, Independent, LogNormal, Poisson, Synthetic

BASE = Scenario(model="llama-2-70b", gpu="a100", tp=4, options={})
CLIENTS, REQUESTS = (4, 8, 16, 32), 120
PROMPT_TOKENS_PER_S = 512  # the paper's first half of the SLO
TOKENS_PER_S = 4  # its second half: the middle one of 2, 4 and 6
SLO = Slo(
    "effective", ttft_ns=2600 * NS_PER_S // PROMPT_TOKENS_PER_S, tpot_ns=NS_PER_S // TOKENS_PER_S
)


STALLS = Slo("stalls", ttft_ns=SLO.ttft_ns, itl_p99_ns=NS_PER_S // TOKENS_PER_S)


def _effective(seed: int, *, batching: str, ordering: str = "fcfs", slo: Slo = SLO) -> float:
    """The best over numbers of clients, as the paper draws the curve."""
    return max(_goodput(seed, clients, batching, ordering, slo) for clients in CLIENTS)


def _goodput(seed: int, clients: int, batching: str, ordering: str, slo: Slo) -> float:
    shapes = Independent(LogNormal.of(2500, 2600), LogNormal.of(58, 60))
    source = Synthetic(Poisson(1000.0), shapes, REQUESTS, seed, slo)
    parts = Parts(workload=ClosedLoop(source, clients))
    result = run(BASE.at(batching=batching, ordering=ordering, seed=seed), parts)
    return float(result.summary["request_goodput"])


def _null(seed: int, *, batching: str) -> float:
    """Equal short prompts: nothing to split, and no SLO that a whole prompt would break."""
    slo = Slo("loose", ttft_ns=60 * NS_PER_S, tpot_ns=1000 * NS_PER_MS)
    source = Synthetic(Poisson(1000.0), Independent(Fixed(64), Fixed(60)), REQUESTS, seed, slo)
    parts = Parts(workload=ClosedLoop(source, CLIENTS[-1]))
    return float(run(BASE.at(batching=batching, seed=seed), parts).summary["request_goodput"])


EXPERIMENT = Experiment(
    ours=partial(_effective, batching="splitfuse"),
    baseline=partial(_effective, batching="prefill_first"),
    strong=partial(_effective, batching="sarathi", ordering="earliest_deadline"),
    null_ours=partial(_null, batching="splitfuse"),
    null_baseline=partial(_null, batching="prefill_first"),
    higher_is_better=True,
    setup="llama-2-70b on 4 A100, prompts of about 2,600 and outputs of about 60 tokens, a closed loop of 4 to "
    "32 clients, the best of them; requests per second with a TTFT of 512 prompt tokens/s and 4 tokens/s after it",
    null_setup="64-token prompts, 60-token outputs, a loose SLO",
    ablations={
        "no_stall_ours": partial(_effective, batching="splitfuse", slo=STALLS),
        "no_stall_baseline": partial(_effective, batching="prefill_first", slo=STALLS),
    },
    differs=(
        "TPOT in place of an exponential average of the token rate",
        "one TTFT for all: 2,600 tokens at 512 tokens/s",
    ),
)
