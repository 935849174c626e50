from __future__ import annotations

import json
import math
from typing import Any

from headway.core import NS_PER_MS, Slo
from headway.metrics import Recorder, base_definitions, curves, definitions, summarise

from .runs import Run

BENCH_KEYS = [
    "duration",
    "completed",
    "failed",
    "total_input_tokens",
    "total_output_tokens",
    "request_throughput",
    "request_goodput",
    "output_throughput",
    "total_token_throughput",
]


def small_run() -> Run:
    run = Run()
    chat = Slo("chat", ttft_ns=100 * NS_PER_MS, tpot_ns=20 * NS_PER_MS)
    for index in range(40):
        sequence = run.offer(
            10 * index, slo=chat if index % 2 else Slo("bulk"), tenant=f"t{index % 3}"
        )
        sequence.cached_tokens = 5
        run.answer(
            sequence, [10 * index + 30 + index, 10 * index + 50 + index, 10 * index + 80 + index]
        )
    return run


def test_keys_are_those_of_vllm_bench_serve_and_each_is_defined() -> None:
    summary = summarise(
        small_run().recorder, capacity_rps=3.0, energy_j=60.0, quality={"mmlu": 0.5}
    )
    assert set(BENCH_KEYS) <= set(summary)
    for metric in ("ttft", "tpot", "itl", "e2el"):
        for statistic in ("mean", "median", "std", "p50", "p90", "p95", "p99"):
            assert isinstance(summary[f"{statistic}_{metric}_ms"], float)
    defined = definitions()
    for part in (summary, *summary["by_class"].values(), *summary["by_tenant"].values()):
        assert set(part) <= set(defined)
    assert set(base_definitions()) <= set(defined)
    assert summary["prefix_cache_hit_rate"] == 0.5
    assert summary["joules_per_token"] == 0.5


def test_parts_add_up_to_the_whole() -> None:
    summary = summarise(small_run().recorder)
    for by in ("by_class", "by_tenant"):
        for key in ("offered", "completed", "attained", "total_output_tokens", "preemptions"):
            assert sum(part[key] for part in summary[by].values()) == summary[key]


def test_a_run_of_nothing_can_be_written() -> None:
    summary = summarise(Recorder())
    assert summary["slo_attainment"] is None
    assert summary["p99_ttft_ms"] is None
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert curves(Recorder())["over_time"]["attainment"] == []


def test_no_number_is_infinite_and_all_can_be_written() -> None:
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for inner in value.values():
                walk(inner)
        else:
            assert value is None or isinstance(value, (int, str)) or math.isfinite(value)

    run = small_run()
    walk(summarise(run.recorder))
    json.dumps([summarise(run.recorder), curves(run.recorder)], allow_nan=False)


def test_targets_of_a_class_are_shown_unless_its_requests_differ() -> None:
    run = small_run()
    assert summarise(run.recorder)["slo"]["chat"] == {"ttft_ms": 100.0, "tpot_ms": 20.0}
    run.offer(500, slo=Slo("chat", ttft_ns=1))
    assert summarise(run.recorder)["slo"]["chat"] is None


def test_reading_twice_gives_the_same_and_changes_nothing() -> None:
    run = small_run()
    assert summarise(run.recorder) == summarise(run.recorder)


def test_curves_agree_with_the_summary() -> None:
    run = small_run()
    summary, lines = summarise(run.recorder), curves(run.recorder)
    for metric, by_class in lines["cdf"].items():
        for name, (values, shares) in by_class.items():
            assert values == sorted(values)
            assert shares[-1] == 1.0
            top = (
                max(value for value, share in zip(values, shares, strict=True) if share <= 0.99)
                - 1e-6
            )
            assert top <= summary["by_class"][name][f"p99_{metric}_ms"] * 1.001
    over_time = lines["over_time"]
    assert sum(over_time["offered_rps"]) * over_time["bin_s"] - summary["offered"] < 1e-3
