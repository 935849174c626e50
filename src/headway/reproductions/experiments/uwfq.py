"""UWFQ: response time of small users beside heavy ones (two-level virtual time, carried from Spark to serving)."""

from __future__ import annotations

from functools import partial

from headway.api import Scenario
from headway.api.runner import run
from headway.api.scenario import Parts
from headway.core.protocols import Workload
from headway.reproductions.experiment import Experiment
from headway.workload import Independent, LogNormal, Poisson, Synthetic, Tenants

BASE = Scenario(model="llama-3.1-8b", gpu="a100", options={"sarathi.max_num_seqs": 32})
REQUESTS, RATE_RPS = 400, 14.0  # 32 sequences hold about 11 requests/s: the heavy user overloads it
LIGHT, SHARE = 8, 0.02  # light users, and the part of all requests that each of them sends


def _workload(seed: int, *, one_tenant: bool) -> Workload:
    shapes = Independent(LogNormal.of(400, 700), LogNormal.of(120, 200))
    source = Synthetic(Poisson(RATE_RPS), shapes, REQUESTS, seed)
    if one_tenant:
        return Tenants(source, {"only": 1.0}, seed)
    shares = {"heavy": 1 - LIGHT * SHARE} | {f"light {n}": SHARE for n in range(LIGHT)}
    return Tenants(source, shares, seed)


def _small_e2e_ms(seed: int, *, ordering: str, batching: str = "sarathi") -> float:
    scenario = BASE.at(ordering=ordering, batching=batching, seed=seed)
    result = run(scenario, Parts(workload=_workload(seed, one_tenant=False)))
    columns = result.requests()
    small = [str(tenant).startswith("light") for tenant in columns["tenant"]]
    waits = (columns["end_ns"] - columns["arrival_ns"])[small]
    return float(waits.mean()) / 1e6


def _e2e_ms(seed: int, *, ordering: str) -> float:
    scenario = BASE.at(ordering=ordering, seed=seed)
    result = run(scenario, Parts(workload=_workload(seed, one_tenant=True)))
    return float(result.summary["mean_e2el_ms"])


EXPERIMENT = Experiment(
    ours=partial(_small_e2e_ms, ordering="uwfq"),
    baseline=partial(_small_e2e_ms, ordering="fcfs"),
    strong=partial(_small_e2e_ms, ordering="earliest_deadline"),
    null_ours=partial(_e2e_ms, ordering="uwfq"),
    null_baseline=partial(_e2e_ms, ordering="fcfs"),
    higher_is_better=False,
    setup="llama-3.1-8b on one A100, 32 sequences at once, 14 requests/s, 84 % of them from one user, the "
    "rest from eight; mean E2E of the eight",
    null_setup="one tenant",
    ablations={"vtc": partial(_small_e2e_ms, ordering="vtc")},
    differs=("requests in place of Spark jobs; outputs expected by each tenant's own past",),
)
