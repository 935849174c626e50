"""What leaping gains: the same requests with leaps and step by step, which must give the same results.

Usage: python bench/leap_speed.py [--quick]
A leap is one decision that is carried out again and again until something could change it. By CPU time of the
simulation alone, samples alternating, medians.
"""

from __future__ import annotations

import sys
from functools import partial
from statistics import median

from _measuring import Sample, machine, say, timed
from headway.core import Slo
from headway.metrics import Recorder, summarise
from headway.runtime import InstanceOptions, load_policy
from headway.runtime.traits import step_tokens_of
from headway.timing import Roofline, kv_capacity, load_device, load_model
from headway.workload import conversation_like
from headway.worlds import Policies, Simulation

BATCHING = ("prefill_first", "sarathi", "splitfuse")
SLO = Slo(ttft_ns=1_000_000_000, tpot_ns=60_000_000)


def run(batching: str, requests: int, *, leap: bool) -> tuple[Sample, dict[str, object], int]:
    """Seconds of the simulation, the summary of the run, and how many plans were made."""
    model, device = load_model("llama-3.1-8b"), load_device("a100-sxm")
    policies = Policies(
        partial(load_policy, "batching", batching),
        partial(load_policy, "ordering", "fcfs"),
        partial(load_policy, "memory", "recompute"),
        load_policy("routing", "least_work"),
        load_policy("admission", "unbounded"),
    )
    blocks = kv_capacity(model, device, 1, step_tokens=step_tokens_of(policies.batching())).blocks
    recorder = Recorder()
    options = InstanceOptions(blocks=blocks, leap=leap)
    simulation = Simulation(Roofline(model, device), policies, options, recorder)
    workload = conversation_like(requests=requests, slo=SLO)
    sample = timed(lambda: simulation.run(workload, on_offer=recorder.on_offer))
    return sample, summarise(recorder), simulation.instances[0].steps


def main() -> int:
    quick = "--quick" in sys.argv[1:]
    requests, rounds = (300, 2) if quick else (1000, 7)
    facts = "; ".join(f"{name}: {value}" for name, value in machine().items())
    print(f"leap against step: {requests} requests on one instance, medians of {rounds}\n{facts}\n")
    print(f"{'':16}{'leap':>10}{'step':>10}{'ratio':>8}{'plans a request':>24}  results")
    same = True
    for batching in BATCHING:
        say(f"{batching} ...")
        runs = {leap: run(batching, requests, leap=leap) for leap in (True, False)}  # warms up
        alike = runs[True][1] == runs[False][1]
        taken: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(rounds):
            for leap, times in taken.items():
                times.append(run(batching, requests, leap=leap)[0].cpu_s)
        fast, slow = (requests / median(taken[leap]) for leap in (True, False))
        plans = " against ".join(f"{runs[leap][2] / requests:,.1f}" for leap in (True, False))
        print(
            f"{batching:16}{fast:10,.0f}{slow:10,.0f}{fast / slow:8.1f}{plans:>24}  "
            f"{'equal' if alike else 'DIFFERENT'}"
        )
        same &= alike
    print("\nleap and step: requests/s of CPU time; results: every number of the summary")
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())
