"""DistServe: capacity per GPU under a TTFT and a TPOT SLO (Zhong et al., OSDI 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from math import prod

from headway.api import Scenario
from headway.api.runner import run
from headway.api.scenario import Parts
from headway.api.slo_text import parse_slos
from headway.reproductions.capacity_of import capacity_of
from headway.reproductions.experiment import Experiment
from headway.workload import Independent, LogNormal, Poisson, Synthetic

BASE = Scenario(gpu="a100", link="nvlink3")
REQUESTS = 200
PLANNING_SEED = 1000  # the offline search never sees the requests that judge it
SMALL = (
    ("prefill:1,decode:1", 2),
    ("prefill:2,decode:1", 3),
    ("prefill:1@2,decode:1", 3),
    ("prefill:1@2,decode:1@2", 4),
)
LARGE = (
    ("prefill:1@2,decode:1@2", 4),
    ("prefill:1@2,decode:1@4", 6),
    ("prefill:1@4,decode:1@4", 8),
)


@dataclass(frozen=True)
class Case:
    """One of the paper's applications: lengths of its data set, SLOs, and what the searches try."""

    model: str
    prompts: tuple[float, float]  # median and mean
    outputs: tuple[float, float]
    ttft_s: float
    tpot_s: float
    splits: tuple[tuple[str, int], ...]  # roles, devices
    whole: tuple[tuple[int, int], ...]  # colocated: instances, tensor parallel size

    def attainment(self, scenario: Scenario, loose: int, seed: int, rate: float) -> float:
        """Share of requests that meet both SLOs, `loose` times as long."""
        prompts = LogNormal.of(*self.prompts, most=1900)
        shapes = Independent(prompts, LogNormal.of(*self.outputs, most=1000))
        slo = parse_slos((f"ttft={self.ttft_s * loose}s,tpot={self.tpot_s * loose}s",)).default
        source = Synthetic(Poisson(rate), shapes, REQUESTS, seed, slo)
        return float(run(scenario.at(seed=seed), Parts(workload=source)).summary["slo_attainment"])


CASES = (
    Case("opt-13b", (695, 755), (87, 200), 0.25, 0.1, SMALL, ((1, 1), (1, 2))),  # ShareGPT
    Case("opt-66b", (136, 171), (55, 98), 0.125, 0.2, LARGE, ((1, 2), (1, 4))),  # HumanEval
    Case("opt-66b", (1500, 1738), (50, 91), 15, 0.15, LARGE, ((1, 2), (1, 4))),  # LongBench
)


def _per_gpu(case: Case, plan: tuple[Scenario, int], loose: int, seed: int) -> float:
    scenario, devices = plan
    attainment = partial(case.attainment, scenario, loose, seed)
    return capacity_of(attainment, first=float(devices)) / devices


def _split(case: Case) -> list[tuple[Scenario, int]]:
    fleet = BASE.at(model=case.model, batching="prefill_first", routing="distserve")
    return [(fleet.at(roles=roles), devices) for roles, devices in case.splits]


def _whole(case: Case, batching: str) -> list[tuple[Scenario, int]]:
    fleet = BASE.at(model=case.model, batching=batching)
    return [(fleet.at(instances=n, tp=tp), n * tp) for n, tp in case.whole]


@cache
def _best(case: Case, system: str, loose: int) -> tuple[Scenario, int]:
    """The offline search, the same for everybody: numbers and sizes of instances by capacity per device."""
    tried = _split(case) if system == "distserve" else _whole(case, system)
    return max(tried, key=lambda plan: _per_gpu(case, plan, loose, PLANNING_SEED))


def _capacity(seed: int, *, system: str, cases: tuple[Case, ...] = CASES, loose: int = 1) -> float:
    """Geometric mean over the applications."""
    found = [_per_gpu(case, _best(case, system, loose), loose, seed) for case in cases]
    return float(prod(found) ** (1 / len(found)))


EXPERIMENT = Experiment(
    ours=partial(_capacity, system="distserve"),
    baseline=partial(_capacity, system="prefill_first"),
    strong=partial(_capacity, system="sarathi"),
    null_ours=partial(_capacity, system="distserve", cases=CASES[:1], loose=4),
    null_baseline=partial(_capacity, system="prefill_first", cases=CASES[:1], loose=4),
    higher_is_better=True,
    setup="chat on opt-13b (TTFT 0.25 s, TPOT 0.1 s), code (0.125 s, 0.2 s) and summarisation (15 s, 0.15 s) on "
    "opt-66b, A100s with NVLink, 200 requests each with the lengths of their data sets; numbers and sizes of "
    "instances by an offline search on other requests; geometric mean over the three",
    null_setup="chat alone with SLOs four times as long: beyond, 200 requests are too few to overload anybody",
    differs=(
        "the baselines' numbers and sizes of instances are searched too",
        "no pipeline parallelism in the search",
        "lengths are lognormal with medians and means of the data sets as far as they are known",
    ),
)
