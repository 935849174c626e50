"""What a run against a server was worth: the simulator's keys, the generator's own numbers, and every call."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from headway.core import NS_PER_MS, NS_PER_S
from headway.core.fleet import FINISHED_OK
from headway.loadgen import lag, lengths
from headway.loadgen.call import Call
from headway.metrics import Recorder, base_definitions, curves

# What no client can see: when a request first took part in a step, and what it cost.
UNSEEN = ("queue_delay",)
_MOST_POINTS = 2000
_FROM_SEND = (
    "Latencies from the moment of sending, as `vllm bench serve` has them: they leave out what "
    "the generator or its limit of concurrency held back."
)
DEFINITIONS = {"from_send": (_FROM_SEND, "ms"), **lag.DEFINITIONS, **lengths.DEFINITIONS}


@dataclass(frozen=True)
class Measured:
    """One run. `summary` has the keys that a simulated run has (`headway.metrics.definitions`).

    `partial` is not empty when the run was cut short, and says how. `server` holds samples by name, parallel to
    `t_s`; empty when the server publishes none.
    """

    title: str
    summary: dict[str, Any]
    generator: dict[str, Any]
    lengths: dict[str, Any]
    server: Mapping[str, Seq[Any]]
    config: Mapping[str, Any]
    notes: tuple[str, ...]
    partial: str
    wall_s: float
    origin_ns: int  # when the run began, on the machine's monotonic clock
    recorder: Recorder = field(repr=False, compare=False)
    calls: Seq[Call] = field(repr=False, compare=False)

    @cached_property
    def curves(self) -> dict[str, Any]:
        """Distributions and attainment over time, as a simulated run has them; and `in_flight`."""
        return {**curves(self.recorder), "in_flight": in_flight(self.calls)}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be read before any number, loudest first."""
        verdict = self.generator["verdict"]
        return tuple(said for said in (verdict, self.partial, *self.notes) if said)

    def document(self, *, detailed: bool = False) -> dict[str, Any]:
        """All of it ready for JSON, with the keys of `vllm bench serve`; `detailed` adds every request."""
        config = self.config
        told = {
            "model_id": config["model"],
            "num_prompts": self.summary["offered"],
            "request_rate": config["request_rate"],
            "burstiness": config["burstiness"],
            "max_concurrency": config["max_concurrency"],
            **self.summary,
            "from_send": from_send(self.calls),
            "generator": self.generator,
            "lengths": self.lengths,
            "server": self.server,
            "partial": self.partial or None,
            "notes": self.notes,
            "config": config,
            "meta": self.meta(),
        }
        return told | (every_request(self.calls, config["run_name"]) if detailed else {})

    def json(self, *, detailed: bool = False) -> str:
        """`document` as JSON text."""
        document = self.document(detailed=detailed)
        return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()

    def meta(self) -> dict[str, Any]:
        """What differs between equal runs."""
        version = getattr(sys.modules.get("headway"), "__version__", "unknown")
        return {
            "headway": version,
            "wall_s": round(self.wall_s, 3),
            "origin_monotonic_ns": self.origin_ns,
        }

    def definitions(self) -> dict[str, tuple[str, str]]:
        """What the keys mean, those of the summary and ours."""
        seen = {key: told for key, told in base_definitions().items() if key not in UNSEEN}
        return seen | DEFINITIONS


def from_send(calls: Seq[Call]) -> dict[str, float | None]:
    """Mean, median and p99 of TTFT and E2E latency from sending, of finished requests."""
    finished = [call for call in calls if call.outcome == FINISHED_OK and call.first_ns >= 0]
    told: dict[str, float | None] = {}
    for name, ends in (("ttft", "first_ns"), ("e2el", "last_ns")):
        values = [getattr(call, ends) - call.sent_ns + call.connect_ns for call in finished]
        numbers = [np.mean(values), *np.quantile(values, (0.5, 0.99))] if values else [None] * 3
        for statistic, number in zip(("mean", "median", "p99"), numbers, strict=True):
            key = f"{statistic}_{name}_ms"
            told[key] = None if number is None else round(float(number) / NS_PER_MS, 6)
    return told


def every_request(calls: Seq[Call], run_name: str) -> dict[str, list[Any]]:
    """Lists parallel over all requests, in order of offer, in vLLM's units (seconds).

    `request_ids` are the `x-request-id` that the server heard. `ttfts` count from the schedule; a request
    without a first token has 0. `itls` hold one gap for two events.
    """
    rows: dict[str, list[Any]] = {
        "request_ids": [f"{run_name}-{call.request.id}" for call in calls],
        "tenant_by_request": [call.request.tenant for call in calls],
        "slo_class_by_request": [call.request.slo.name for call in calls],
        "input_lens": [_prompt_tokens(call) for call in calls],
        "output_lens": [call.output_tokens if call.outcome == FINISHED_OK else 0 for call in calls],
        "ttfts": [
            (call.first_ns - call.request.arrival_ns) / NS_PER_S if call.first_ns >= 0 else 0.0
            for call in calls
        ],
        "itls": [(np.diff(np.array(call.stamps)) / NS_PER_S).tolist() for call in calls],
        "start_times": [call.request.arrival_ns / NS_PER_S for call in calls],
        "send_times": [_seconds(call.sent_ns) for call in calls],
        "end_times": [_seconds(call.end_ns) for call in calls],
        "outcome_by_request": [call.outcome or "unfinished" for call in calls],
        "errors": [call.error for call in calls],
    }
    rows["generated_texts"] = ["".join(call.pieces or ()) for call in calls]
    return rows


def in_flight(calls: Seq[Call]) -> dict[str, list[float]]:
    """Requests that were due and had not ended, over time: a step curve thinned to its extremes."""
    starts = [call.request.arrival_ns for call in calls]
    ends = [call.end_ns for call in calls if call.end_ns >= 0]
    times = np.array([*starts, *ends], np.int64)
    changes = np.repeat([1, -1], [len(starts), len(ends)])
    order = np.argsort(times, kind="stable")
    times, level = times[order], np.cumsum(changes[order])
    if len(times) > _MOST_POINTS:
        bins = np.unique(np.linspace(0, len(times), _MOST_POINTS + 1).astype(np.int64)[:-1])
        times, level = times[bins], np.maximum.reduceat(level, bins)
    return {"t_s": np.round(times / NS_PER_S, 4).tolist(), "requests": level.tolist()}


def _prompt_tokens(call: Call) -> int:
    """As the server counted, else as wanted."""
    counted = 0 if call.usage is None else call.usage.prompt_tokens
    return counted or call.request.prompt_tokens


def _seconds(time_ns: int) -> float | None:
    return time_ns / NS_PER_S if time_ns >= 0 else None
