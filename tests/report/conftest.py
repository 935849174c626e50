"""A small run with two tenants and two classes; names contain what HTML must not swallow."""

from __future__ import annotations

from typing import Any

import pytest

from headway.core import NS_PER_MS, NS_PER_S, Request, Sequence, Slo, Step, StepResult, WorkDone
from headway.metrics import Recorder, summarise

CHAT = Slo("chat </script><img src=x>", ttft_ns=80 * NS_PER_MS, tpot_ns=15 * NS_PER_MS)
BULK = Slo("bulk", e2e_ns=NS_PER_S)


def record(requests: int, service_ms: int) -> Recorder:
    """Serve one request after the other, four tokens each, faster or slower; every 7th is rejected."""
    recorder, now = Recorder(), 0
    for index in range(requests):
        arrival = index * 40 * NS_PER_MS
        slo, tenant = (CHAT, "<b>a</b>") if index % 3 else (BULK, "b")
        request = Request(index, arrival, 100, 10, slo=slo, tenant=tenant)
        recorder.on_offer(request)
        if index % 7 == 6:
            recorder.on_end(request, None, "rejected: full", arrival)
            continue
        sequence = Sequence(request)
        sequence.started_ns = now = max(now, arrival)
        for _ in range(4):
            now += service_ms * NS_PER_MS // 4
            recorder.on_tokens(
                Step(index, "main", [sequence.decode]),
                StepResult("done", [WorkDone(1, 1, 1)], [now]),
            )
            sequence.first_token_ns = (
                now if sequence.first_token_ns < 0 else sequence.first_token_ns
            )
            sequence.last_token_ns = now
            sequence.output_tokens += 1
        recorder.on_end(request, sequence, "finished", now)
    return recorder


@pytest.fixture(scope="session")
def recorder() -> Recorder:
    return record(60, 30)


@pytest.fixture(scope="session")
def rows() -> list[dict[str, Any]]:
    """Three batchings at two rates, as if a slower one were another policy."""
    return [
        {
            "batching": name,
            "ordering": "fcfs",
            "memory": "recompute",
            "routing": "round_robin",
            "admission": "all",
            "rate_rps": rate,
            "summary": summarise(record(requests, service_ms)),
        }
        for rate, requests in ((25.0, 20), (50.0, 40))
        for name, service_ms in (("fast", 24), ("even", 36), ("slow<i>", 60))
    ]
