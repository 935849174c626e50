"""Throughput against fairness: every ordering on one small overload, and who is on the front.

One GPU with little KV memory, five tenants of whom one sends half of all requests, all of them backlogged. Fairness
is the largest service lag between two tenants that both wait (Sheng et al., OSDI 2024; see `headway.metrics`); shares
of a whole run say nothing here, as in the end everybody is served. Every ordering runs with the same batching and
memory policies; FastSwitch runs once more as the system it is, its rotating priorities with its own memory policy.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from statistics import fmean
from typing import Any, NamedTuple

from headway.api import Result, Scenario
from headway.api.runner import run
from headway.api.scenario import Parts
from headway.core import NS_PER_S
from headway.core.protocols import Workload
from headway.report.pareto import front
from headway.runtime import policy_names
from headway.workload import Independent, LogNormal, Poisson, Synthetic, Tenants

BATCHING, MEMORY = "sarathi", "recompute"
SYSTEMS = {
    "fastswitch": ("rotating_priority", "fastswitch")
}  # beside the orderings: (ordering, memory)
BASE = Scenario(model="llama-3.1-8b", gpu="a10", batching=BATCHING, slo=("none",))
SEEDS, REQUESTS, RATE_RPS = 3, 240, 6.0  # the GPU holds about 2.3 requests/s
HEAVY, LIGHT = 4.0, 4  # the heavy tenant's share, in shares of one of the light ones


class Point(NamedTuple):
    """One combination, mean over seeds."""

    name: str
    ordering: str
    memory: str
    throughput_tps: float  # output tokens; more is better
    lag_tokens: float  # largest service lag between two backlogged tenants; less is better
    light_e2e_s: float  # mean of the light tenants; told, but no coordinate of the front
    on_front: bool

    def row(self) -> dict[str, Any]:
        """Ready for JSON."""
        return self._asdict() | {
            "throughput_tps": round(self.throughput_tps, 2),
            "lag_tokens": round(self.lag_tokens, 1),
            "light_e2e_s": round(self.light_e2e_s, 3),
        }


def points(seeds: int = SEEDS) -> list[Point]:
    """All orderings and the systems above, fairest first."""
    combinations = {name: (name, MEMORY) for name in policy_names("ordering")} | SYSTEMS
    measured = {
        name: _measure(ordering, memory, seeds) for name, (ordering, memory) in combinations.items()
    }
    best = front([(lag, -throughput) for throughput, lag, _ in measured.values()])
    found = [
        Point(name, *combinations[name], *measured[name], index in best)
        for index, name in enumerate(measured)
    ]
    return sorted(found, key=lambda point: (point.lag_tokens, point.name))


def section(found: Seq[Point]) -> list[str]:
    """Lines of Markdown for the page of reproductions."""
    setup = (
        f"Every ordering with `{BATCHING}` on one A10 that serves llama-3.1-8b: {REQUESTS} requests at {RATE_RPS:g}/s, "
        f"more than twice what it can, half of them from one of {LIGHT + 1} tenants; means of {SEEDS} seeds."
    )
    heads = ("ordering", "memory", "output tokens/s", "largest service lag, tokens", "on the front")
    lines = ["## Throughput and fairness", "", setup, ""]
    lines += [
        f"| {' | '.join(heads)} | light tenants' mean E2E, s |",
        "|---|---|---:|---:|---|---:|",
    ]
    for point in found:
        name = (
            point.ordering if point.name == point.ordering else f"{point.ordering} ({point.name})"
        )
        lines.append(
            f"| {name} | {point.memory} | {point.throughput_tps:.1f} | {point.lag_tokens:.0f} "
            f"| {'yes' if point.on_front else 'no'} | {point.light_e2e_s:.1f} |"
        )
    asked = {point.name: point.on_front for point in found if point.name in ("fastswitch", "uwfq")}
    said = [f"{name} is {'' if on else 'not '}on the front" for name, on in sorted(asked.items())]
    return [*lines, "", f"Of the fair systems, {'; '.join(said)}."]


def _workload(seed: int) -> Workload:
    shapes = Independent(LogNormal.of(300, 500), LogNormal.of(150, 220))
    source = Synthetic(Poisson(RATE_RPS), shapes, REQUESTS, seed)
    shares = {"heavy": HEAVY} | {f"light {n}": 1.0 for n in range(LIGHT)}
    return Tenants(source, shares, seed)


def _measure(ordering: str, memory: str, seeds: int) -> tuple[float, float, float]:
    scenario = BASE.at(ordering=ordering, memory=memory)
    found = [run(scenario, Parts(workload=_workload(seed))) for seed in range(seeds)]
    throughput = fmean(float(each.summary["output_throughput"]) for each in found)
    lag = fmean(float(each.summary["max_service_lag_tokens"]) for each in found)
    return throughput, lag, fmean(_light_e2e_s(each) for each in found)


def _light_e2e_s(result: Result) -> float:
    columns = result.requests()
    light = [str(tenant).startswith("light") for tenant in columns["tenant"]]
    return float((columns["end_ns"] - columns["arrival_ns"])[light].mean()) / NS_PER_S
