"""The workload that a scenario describes: a trace or synthetic requests, labelled, in an open or closed loop."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from pathlib import Path

from headway.api.scenario import DEFAULT_RATE_RPS, DEFAULT_REQUESTS, Scenario
from headway.api.slo_text import SloBook
from headway.core import NS_PER_S
from headway.core.protocols import Workload
from headway.errors import WorkloadError
from headway.workload import (
    ClosedLoop,
    Gamma,
    Poisson,
    Sessions,
    SloClasses,
    Tenants,
    conversation_like,
    open_trace,
)


def workload_of(scenario: Scenario, slos: SloBook, context_tokens: int) -> Workload:
    """Build it; nothing is read of a trace but, when it is scaled to a rate, the arrivals.

    `context_tokens` is where sessions end: the model's context, or what an instance holds.

    Raises:
        WorkloadError: no such trace, or of no known format.
    """
    workload = _source(scenario, slos, context_tokens)
    if slos.classes and (scenario.trace is None or slos.shares):
        workload = SloClasses(workload, slos.labels, scenario.seed)
    if scenario.tenants:
        workload = Tenants.skewed(workload, scenario.tenants, scenario.tenant_skew, scenario.seed)
    if scenario.concurrency is not None:
        workload = ClosedLoop(workload, scenario.concurrency, requests_of(scenario))
    return workload


def rate_of(scenario: Scenario) -> float:
    """The nominal offered rate in requests (with `sessions`: sessions) per second."""
    if scenario.rate_rps is not None:
        return scenario.rate_rps * scenario.rate_scale
    natural = DEFAULT_RATE_RPS if scenario.trace is None else _natural_rate(scenario)
    return natural * scenario.rate_scale


def requests_of(scenario: Scenario) -> int | None:
    """How many requests (with `sessions`: sessions) are offered; None: as many as the trace has."""
    if scenario.requests is None and scenario.trace is None:
        return DEFAULT_REQUESTS
    return scenario.requests


def _source(scenario: Scenario, slos: SloBook, context_tokens: int) -> Workload:
    requests = requests_of(scenario)
    if scenario.trace is not None:
        scale = scenario.rate_scale
        if scenario.rate_rps is not None:
            scale *= scenario.rate_rps / _natural_rate(scenario)
        return open_trace(
            scenario.trace,
            requests=requests,
            rate_scale=scale,
            loop=scenario.loop,
            loop_reuse=scenario.loop_reuse,
            slo=slos.default,
            slo_by_class=slos.classes,
            max_tokens=scenario.max_tokens,
        )
    rate_rps = rate_of(scenario)
    if scenario.sessions:
        return Sessions(
            Poisson(rate_rps) if scenario.cv is None else Gamma(rate_rps, scenario.cv),
            sessions=requests,
            context_tokens=context_tokens,
            seed=scenario.seed,
            slo=slos.default,
            max_tokens=scenario.max_tokens,
        )
    shape = {} if scenario.cv is None else {"cv": scenario.cv}
    return conversation_like(
        rate_rps,
        requests=requests,
        seed=scenario.seed,
        slo=slos.default,
        max_tokens=scenario.max_tokens,
        **shape,
    )


def _natural_rate(scenario: Scenario) -> float:
    assert scenario.trace is not None
    path = Path(scenario.trace)
    # A trace that has changed since is another trace.
    stamp = path.stat().st_mtime_ns if path.exists() else 0
    return _rate_of_trace(
        scenario.trace, stamp, scenario.requests, loop=scenario.loop or scenario.loop_reuse
    )


@lru_cache(maxsize=16)
def _rate_of_trace(path: str, stamp: int, requests: int | None, *, loop: bool) -> float:
    """Requests per second between the first and the last arrival, of those that will be offered."""
    del stamp
    first = last = None
    offered = 0
    for offer in islice(open_trace(path, requests=requests, loop=loop).offers(), requests):
        last = offer.request.arrival_ns
        first = last if first is None else first
        offered += 1
    if first is None or last is None or last == first:
        raise WorkloadError(
            f"{path} has {offered} requests that arrive at one time, so it has no rate to scale: leave rate out"
        )
    return offered / ((last - first) / NS_PER_S)
