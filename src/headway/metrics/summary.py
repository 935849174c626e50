"""One run in numbers: a dict that can be written as JSON, with the keys of `vllm bench serve` and
more.

The same events give the same dict in the same order: no wall time, and no sum that depends on the
order of a dict.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from headway.core import NS_PER_MS, NS_PER_S, Slo
from headway.metrics import latency
from headway.metrics.fairness import entitlements, jain_index
from headway.metrics.histogram import Ints, LogHistogram
from headway.metrics.latency import Columns
from headway.metrics.recorder import COLUMNS, UNFINISHED, Recorder
from headway.metrics.saturation import offered_exceeds_capacity
from headway.metrics.targets import TARGETS

MOST_TENANTS_SHOWN = 64

Bools = npt.NDArray[np.bool_]

DEFINITIONS = {
    "duration": ("First arrival to last output token of the run.", "s"),
    "offered": ("Requests that arrived, before admission.", "requests"),
    "completed": ("Requests that finished.", "requests"),
    "failed": (
        "Requests offered that did not finish, for whatever reason (see outcomes).",
        "requests",
    ),
    "outcomes": (
        "Requests by how they ended; unfinished: not ended when the metrics were read.",
        "requests",
    ),
    "total_input_tokens": ("Prompt tokens of finished requests.", "tokens"),
    "total_output_tokens": ("Output tokens of finished requests.", "tokens"),
    "emitted_tokens": (
        "Output tokens of all requests, also of those that did not finish.",
        "tokens",
    ),
    "request_throughput": ("Finished requests / duration, SLOs ignored.", "requests/s"),
    "request_goodput": (
        "Requests that attained their SLO / duration, in this run, at this load.",
        "requests/s",
    ),
    "output_throughput": ("Output tokens of finished requests / duration.", "tokens/s"),
    "total_token_throughput": (
        "Prompt and output tokens of finished requests / duration.",
        "tokens/s",
    ),
    "offered_rps": ("Requests offered / time from first to last arrival.", "requests/s"),
    "capacity_rps": (
        (
            "Highest offered rate at which SLO attainment is at least the stated target; null "
            "unless searched for."
        ),
        "requests/s",
    ),
    "prefix_cache_hit_rate": (
        "Prompt tokens taken from the prefix cache / prompt tokens, of started requests.",
        "share",
    ),
    "preemptions": ("Times a running sequence was put back to waiting.", "times"),
    "energy_j": ("Energy of the run; null unless measured or modelled.", "J"),
    "joules_per_token": ("Energy / output tokens of all requests.", "J/token"),
    "quality": ("Quality of the answers by benchmark; null where unknown.", "score"),
    "tenants": (
        "Tenants that offered requests; the 64 that offered most are listed in by_tenant.",
        "tenants",
    ),
    "by_class": ("The same metrics by SLO class.", ""),
    "by_tenant": (
        "The same metrics by tenant; ITL only for the first 64 pairs of class and tenant.",
        "",
    ),
}


def summarise(
    recorder: Recorder,
    *,
    capacity_rps: float | None = None,
    energy_j: float | None = None,
    quality: Mapping[str, float] | None = None,
    weights: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Read a run. What a recorder cannot know is handed in; `weights` are tenants' entitlements
    (default 1).
    """
    rows = recorder.rows()
    ended = {name: rows[:, index] for index, name in enumerate(COLUMNS)}
    seconds = _duration_s(recorder)
    attained = attained_mask(ended)
    group_class = [group.slo_class for group in recorder.groups]
    group_tenant = [group.tenant for group in recorder.groups]
    tenants = _offered_by(recorder, group_tenant)
    shown = sorted(sorted(tenants), key=lambda name: -tenants[name])[:MOST_TENANTS_SHOWN]
    everything = np.arange(len(recorder.groups))

    def block(members: Ints, itl: LogHistogram | None) -> dict[str, Any]:
        mine = np.isin(ended["group"], members)
        offered = sum(recorder.groups[index].offered for index in members)
        part = {name: column[mine] for name, column in ended.items()}
        return _block(part, attained[mine], offered, seconds, itl, recorder.outcomes)

    whole = block(everything, recorder.itl())

    def parts(of: list[str], names: list[str], by: str) -> dict[str, Any]:
        if len(set(of)) == 1 and len(names) == 1:
            return {names[0]: dict(whole)}  # one part is everything
        return {
            name: block(
                np.array([i for i, own in enumerate(of) if own == name]), recorder.itl(**{by: name})
            )
            for name in names
        }

    summary: dict[str, Any] = {"duration": round(seconds, 9), "offered_rps": _offered_rps(recorder)}
    summary |= whole
    emitted = recorder.emitted_tokens
    summary |= {
        "emitted_tokens": emitted,
        "capacity_rps": capacity_rps,
        "offered_exceeds_capacity": offered_exceeds_capacity(recorder),
        "energy_j": energy_j,
        "joules_per_token": None if energy_j is None else _ratio(energy_j, emitted),
        "quality": None if quality is None else {name: quality[name] for name in sorted(quality)},
        "slo": {name: _targets_ms(recorder.slos[name]) for name in sorted(recorder.slos)},
        "tenants": len(tenants),
    }
    fairness, by_tenant_tokens = _fairness(recorder, ended, attained, tenants, weights or {})
    summary |= fairness
    summary["by_class"] = parts(group_class, sorted(set(group_class)), "slo_class")
    summary["by_tenant"] = parts(group_tenant, sorted(shown), "tenant")
    for name, tokens in by_tenant_tokens.items():
        if name in summary["by_tenant"]:
            summary["by_tenant"][name] |= tokens
    return summary


def attained_mask(ended: Columns) -> Bools:
    """Which ended requests attained their SLO: finished (outcome 0), and missed nothing."""
    attained: Bools = (ended["outcome"] == 0) & (ended["missed"] == 0)
    return attained


def _block(
    ended: Columns,
    attained: Bools,
    offered: int,
    seconds: float,
    itl: LogHistogram | None,
    outcomes: list[str],
) -> dict[str, Any]:
    """All metrics that make sense for a part of the requests."""
    is_finished = ended["outcome"] == 0
    finished = {name: column[is_finished] for name, column in ended.items()}
    completed = len(finished["id"])
    prompt, output = int(finished["prompt"].sum()), int(finished["output"].sum())
    counts = {
        name: int(np.count_nonzero(ended["outcome"] == code)) for code, name in enumerate(outcomes)
    }
    counts[UNFINISHED] = offered - len(ended["id"])
    missed = {
        name: int(np.count_nonzero(finished["missed"] >> bit & 1))
        for bit, name in enumerate(TARGETS)
    }
    started = (ended["started"] >= 0) | (ended["first"] >= 0)
    good = int(np.count_nonzero(attained))
    return {
        "offered": offered,
        "completed": completed,
        "failed": offered - completed,
        "outcomes": counts,
        "slo_attainment": _ratio(good, offered),
        "attained": good,
        "slo_misses": missed | dict(list(counts.items())[1:]),
        "total_input_tokens": prompt,
        "total_output_tokens": output,
        "request_throughput": _ratio(completed, seconds),
        "request_goodput": _ratio(good, seconds),
        "output_throughput": _ratio(output, seconds),
        "total_token_throughput": _ratio(prompt + output, seconds),
        **latency.statistics("ttft", latency.ttft_ns(finished)),
        **latency.statistics("tpot", latency.tpot_ns(finished)),
        "tpot_undefined": int(np.count_nonzero(finished["output"] < 2)),
        **latency.statistics_of("itl", itl),
        **latency.statistics("e2el", latency.e2el_ns(finished)),
        **latency.statistics("queue_delay", latency.queue_delay_ns(ended)),
        "prefix_cache_hit_rate": _ratio(
            int(ended["cached"].sum()), int(ended["prompt"][started].sum())
        ),
        "preemptions": int(ended["preemptions"].sum()),
    }


def _fairness(
    recorder: Recorder,
    ended: Columns,
    attained: Bools,
    offered: Mapping[str, int],
    weights: Mapping[str, float],
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """The fairness keys, and tokens served and entitled by tenant."""
    names = sorted(offered)
    code = {name: index for index, name in enumerate(names)}
    tenant = np.array([code[group.tenant] for group in recorder.groups], np.int64)[ended["group"]]

    def total(values: Ints) -> Ints:
        return np.bincount(tenant, weights=values, minlength=len(names)).astype(np.int64)

    got_first = ended["first"] >= 0
    finished = ended["outcome"] == 0
    prompt_served = ended["prompt"] * got_first
    served = total(prompt_served + ended["output"])
    mean_output = float(ended["output"][finished].mean()) if finished.any() else 0.0
    mean_prompt = float(ended["prompt"].mean()) if len(finished) else 0.0
    lacking = np.maximum(mean_output - ended["output"], 0.0) + ended["prompt"] - prompt_served
    unfinished = np.array([offered[name] for name in names]) - total(np.ones_like(tenant))
    demand = served + np.bincount(tenant, weights=lacking * ~finished, minlength=len(names))
    demand = demand + unfinished * (mean_prompt + mean_output)
    shares = entitlements(
        demand.tolist(), float(served.sum()), [weights.get(name, 1.0) for name in names]
    )
    pairs = [(int(got), due) for got, due in zip(served, shares, strict=True) if due > 0]
    several = len(names) > 1
    attainment = total(attained.astype(np.int64)) / np.array([offered[name] for name in names])
    return {
        "jain_tokens": round(jain_index([got / due for got, due in pairs]), 6)
        if several and pairs
        else None,
        "worst_tenant_attainment": round(float(attainment.min()), 6) if names else None,
        "max_service_lag_tokens": recorder.lag.max_tokens if several else None,
    }, {
        name: {"served_tokens": int(served[index]), "entitled_tokens": round(shares[index], 3)}
        for index, name in enumerate(names)
    }


def _duration_s(recorder: Recorder) -> float:
    if not recorder.arrivals:
        return 0.0
    return max(0, recorder.last_token_ns - min(recorder.arrivals)) / NS_PER_S


def _offered_rps(recorder: Recorder) -> float | None:
    if not recorder.arrivals:
        return None
    return _ratio(
        len(recorder.arrivals), (max(recorder.arrivals) - min(recorder.arrivals)) / NS_PER_S
    )


def _offered_by(recorder: Recorder, names: list[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for group, name in zip(recorder.groups, names, strict=True):
        counts[name] = counts.get(name, 0) + group.offered
    return counts


def _targets_ms(slo: Slo | None) -> dict[str, float] | None:
    if slo is None:
        return None
    times = {"ttft": slo.ttft_ns, "tpot": slo.tpot_ns, "itl_p99": slo.itl_p99_ns, "e2e": slo.e2e_ns}
    times["deadline"] = slo.deadline_ns
    targets = {f"{name}_ms": time / NS_PER_MS for name, time in times.items() if time is not None}
    return targets | (
        {} if slo.late_permille is None else {"late_permille": float(slo.late_permille)}
    )


def _ratio(part: float, whole: float) -> float | None:
    return round(part / whole, 6) if whole else None
