"""Result files of other tools become requests with times; what cannot be used is refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headway.api.calibration import calibrate
from headway.api.change import Change
from headway.api.what_if import whatif
from headway.errors import OptionError, WorkloadError
from headway.records.client_results import read_client_results

BASE_S, DECODE_S, PREFILL_S = 0.008, 0.0004, 0.00005
TIMELINES = (
    Path(__file__).parents[2].parent / "shared/silicon/vllm_rtx4090_llama31_8b/requests.jsonl"
)


def rows(count: int = 60) -> list[dict[str, Any]]:
    """What a client would have seen of an engine that decodes everyone in every step."""
    made = []
    for n in range(count):
        beside = 1 + n % 4
        start, prompt, output = 0.3 * n, 50 + 7 * n, 20 + n % 13
        gap = BASE_S + DECODE_S * beside
        first = start + BASE_S + PREFILL_S * prompt
        made.append(
            {"start": start, "prompt": prompt, "output": output, "first": first, "gap": gap}
        )
    return made


def vllm(path: Path, **changes: Any) -> Path:
    told = rows()
    document = {
        "model_id": "meta-llama/Llama-3.1-8B",
        "input_lens": [row["prompt"] for row in told],
        "output_lens": [row["output"] for row in told],
        "ttfts": [row["first"] - row["start"] for row in told],
        "itls": [[row["gap"]] * (row["output"] - 1) for row in told],
        "start_times": [1000.0 + row["start"] for row in told],
        "errors": [""] * len(told),
    }
    path.write_text(json.dumps(document | changes))
    return path


def guidellm(path: Path) -> Path:
    successful = [
        {
            "request_start_time": 5e8 + row["start"],
            "prompt_tokens": row["prompt"],
            "output_tokens": row["output"],
            "time_to_first_token_ms": 1000 * (row["first"] - row["start"]),
            "inter_token_latency_ms": 1000 * row["gap"],
        }
        for row in rows()
    ]
    requests = {"successful": successful, "errored": [{}], "incomplete": []}
    path.write_text(json.dumps({"benchmarks": [{"requests": requests}], "args": {"model": "m"}}))
    return path


def aiperf(path: Path) -> Path:
    lines = []
    for row in rows():
        e2e = row["first"] - row["start"] + row["gap"] * (row["output"] - 1)
        values = {
            "input_sequence_length": row["prompt"],
            "output_sequence_length": row["output"],
            "time_to_first_token": 1000 * (row["first"] - row["start"]),
            "request_latency": 1000 * e2e,
        }
        start = {
            "request_start_ns": round(1e18 + 1e9 * row["start"]),
            "benchmark_phase": "profiling",
        }
        metrics = {name: {"value": value, "unit": "x"} for name, value in values.items()}
        lines.append({"metadata": start, "metrics": metrics, "error": None})
    lines.append({"metadata": {"was_cancelled": True}, "metrics": {}, "error": {"code": 499}})
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


@pytest.mark.parametrize("write", [vllm, guidellm, aiperf])
def test_every_tool_tells_the_same_run(tmp_path: Path, write: Any) -> None:
    found = read_client_results(write(tmp_path / "results"))
    assert len(found.requests) == 60
    assert found.failed == (0 if write is vllm else 1)
    for one, row in zip(found.requests, rows(), strict=True):
        assert (one.prompt_tokens, one.output_tokens) == (row["prompt"], row["output"])
        assert one.arrival_ns == pytest.approx(1e9 * row["start"], abs=1000)
        assert one.first_ns == pytest.approx(1e9 * row["first"], abs=1000)
        span = row["gap"] * (row["output"] - 1)
        assert one.last_ns - one.first_ns == pytest.approx(1e9 * span, abs=1000)
        assert len(one.token_times_ns) == (one.output_tokens if write is vllm else 0)


def test_a_coarse_profile_says_that_it_is_one(tmp_path: Path) -> None:
    made = calibrate([guidellm(tmp_path / "benchmarks.json")], gpu="4090", model="llama-3.1-8b")
    assert made.profile.coarse and made.profile.layers == 32
    assert made.profile.device == "rtx-4090"
    assert any("coarse" in note for note in made.notes)
    assert made.profile.base_ns + made.profile.decodes.at(1) > 0


def test_a_result_file_can_be_asked_what_if(tmp_path: Path) -> None:
    told = whatif(
        vllm(tmp_path / "r.json"),
        Change(gpu="h100"),
        measured_gpu="4090",
        measured_model="llama-3.1-8b",
        measured_blocks=3000,
        slo=("ttft=1s",),
        draws=2,
    )
    assert told.measured["slo_attainment"] == 1
    assert told.difference["p50_tpot_ms"].value < 0
    assert any("knows no policies" in note for note in told.notes)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    path = tmp_path / "r"
    for text, match in (
        ("{}", "no result file that we know"),
        ("nonsense", "neither JSON"),
        ('{"median_ttft_ms": 3}', "save-detailed"),
        ('{"benchmarks": []}', "no finished request"),
        ("", "no result file"),
    ):
        path.write_text(text)
        with pytest.raises(WorkloadError, match=match):
            read_client_results(path)
    with pytest.raises(WorkloadError, match="start_times"):
        read_client_results(vllm(path, start_times=None))
    with pytest.raises(OptionError, match="one result file"):
        calibrate([vllm(path), path])


@pytest.mark.skipif(not TIMELINES.exists(), reason="measured timelines are not here")
def test_a_real_run_of_an_engine_is_told_again() -> None:
    told = whatif(
        TIMELINES,
        measured_gpu="4090",
        measured_model="llama-3.1-8b",
        measured_blocks=2588,
        measured_options={"sarathi.token_budget": "2048"},
        slo=("ttft=2s,tpot=40ms",),
        draws=2,
    )
    for name in ("p50_tpot_ms", "request_throughput", "p50_e2el_ms"):
        assert abs(told.error[name]) < 0.2, name
