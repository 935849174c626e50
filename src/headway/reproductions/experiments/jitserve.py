"""JITServe: token goodput over latency, deadline and compound requests."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from headway.api import Scenario
from headway.api.runner import run
from headway.api.scenario import Parts
from headway.core import NS_PER_MS, NS_PER_S, Slo
from headway.core.protocols import Workload
from headway.reproductions.experiment import Experiment
from headway.workload import (
    Independent,
    LogNormal,
    Merged,
    Poisson,
    Synthetic,
    Uniform,
    Workflows,
)

BASE = Scenario(model="llama-3.1-8b", gpu="a100", options={})
EACH = 300  # requests of each of the three kinds: arrivals last longer than any deadline
RATE_RPS = 8.0  # of all: FCFS keeps up with about 5.3
CHAT = Slo("chat", ttft_ns=2 * NS_PER_S, tpot_ns=100 * NS_PER_MS)
TASK = Slo("task", e2e_ns=20 * NS_PER_S)
STAGE_NS = 20 * NS_PER_S
BATCH = 32  # of the published scripts


def _mixed(seed: int, rate: float) -> Workload:
    part = rate / 3
    chat = Independent(LogNormal.of(200, 400), LogNormal.of(200, 300, most=2000))
    task = Independent(LogNormal.of(1000, 1500, most=8000), LogNormal.of(250, 400, most=2000))
    call = Independent(LogNormal.of(600, 900, most=8000), LogNormal.of(150, 250, most=2000))
    calls = 3 * 2.5  # of a workflow, on average
    return Merged(
        [
            Synthetic(Poisson(part), chat, EACH, seed * 10, CHAT),
            Synthetic(Poisson(part), task, EACH, seed * 10 + 1, TASK),
            Workflows(
                Poisson(part / calls),
                stages=Uniform(2, 4),
                calls=Uniform(1, 4),
                shapes=call,
                workflows=round(EACH / calls),
                stage_ns=STAGE_NS,
                seed=seed * 10 + 2,
            ),
        ]
    )


def _alike(seed: int, rate: float) -> Workload:
    shapes = Independent(LogNormal.of(600, 900, most=8000), LogNormal.of(200, 300, most=2000))
    return Synthetic(Poisson(rate), shapes, 3 * EACH, seed)


def _goodput(
    seed: int,
    *,
    batching: str,
    ordering: str = "fcfs",
    options: Mapping[str, Any] | None = None,
    alike: bool = False,
    rate: float = RATE_RPS,
) -> float:
    """Output tokens a second of requests that attained their SLO, from the first arrival to the last end."""
    scenario = BASE.at(batching=batching, ordering=ordering, options=options or {}, seed=seed)
    workload = (_alike if alike else _mixed)(seed, rate)
    found = run(scenario, Parts(workload=workload)).requests()
    spent_ns = int(found["end_ns"].max() - found["arrival_ns"].min())
    return float(found["output_tokens"][found["attained"]].sum()) / spent_ns * NS_PER_S


SARATHI = {"sarathi.max_num_seqs": BATCH}
JITSERVE = {"jitserve.batch": BATCH}
EXPERIMENT = Experiment(
    ours=partial(_goodput, batching="jitserve", options=JITSERVE),
    baseline=partial(_goodput, batching="sarathi", options=SARATHI),
    strong=partial(_goodput, batching="sarathi", ordering="earliest_deadline", options=SARATHI),
    null_ours=partial(_goodput, batching="jitserve", options=JITSERVE, alike=True),
    null_baseline=partial(_goodput, batching="sarathi", options=SARATHI, alike=True),
    higher_is_better=True,
    setup="llama-3.1-8b on one A100, 32 sequences at once as in the published scripts; as many chats (2 s TTFT, 100 ms "
    "TPOT), tasks (20 s) and calls of workflows (20 s a stage), 8 requests/s, one and a half times what FCFS keeps up "
    "with; output tokens a second of requests that attained their SLO",
    null_setup="one class of requests that were promised nothing",
    ablations={
        "near_ours": partial(_goodput, batching="jitserve", options=JITSERVE, rate=6.0),
        "near_baseline": partial(_goodput, batching="sarathi", options=SARATHI, rate=6.0),
        "many_places_ours": partial(_goodput, batching="jitserve", options={"jitserve.batch": 256}),
        "many_places_baseline": partial(_goodput, batching="sarathi"),
        "output_only": partial(
            _goodput, batching="jitserve", options=JITSERVE | {"jitserve.input_weight": 0}
        ),
    },
    differs=(
        "calls bring their stage's deadline: no pattern of stages is matched",
        "output lengths follow no feature but the class, so the bound is a quantile of the class",
        "KV has room for all, so losing a place costs no swap",
    ),
)
