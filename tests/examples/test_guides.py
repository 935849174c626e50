"""What the guides and the README show as files works when it is copied."""

import runpy
from pathlib import Path

import pytest

import headway
from headway.timing import load_device
from headway.workload import open_trace

ROOT = Path(__file__).parents[2]


def block(page: str, kind: str) -> str:
    """The first block of that kind."""
    text = (ROOT / page).read_text("utf-8")
    return text.split(f"```{kind}\n", 1)[1].split("```", 1)[0]


def test_the_device_of_the_guide_loads(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(block("docs/guides/hardware.md", "toml"), "utf-8")
    assert load_device(file).peak("fp8") == load_device(file).peak("bf16") == 200e12


def test_the_trace_of_the_guide_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(block("docs/guides/traces.md", "json"), "utf-8")
    requests = [offer.request for offer in open_trace(file).offers()]
    assert [request.tenant for request in requests] == ["", "acme", ""]
    assert requests[2].slo.ttft_ns == 300_000_000


def test_the_timing_model_of_the_guide_runs(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    code = block("docs/guides/hardware.md", "python").replace(
        "layers=32)", "layers=32), requests=5"
    )
    file.write_text(code, "utf-8")
    assert runpy.run_path(str(file))["result"].summary["completed"] == 5


def test_the_policy_of_the_readme_runs_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(block("README.md", "python"), "utf-8")
    mine = headway.simulate(batching=str(file), requests=50).summary
    assert mine == headway.simulate(batching="sarathi", requests=50).summary


@pytest.mark.parametrize(
    "options",
    [
        {"instances": 4, "routing": "least_work", "options": {"routing.measure": "prompt_tokens"}},
        {"instances": 2, "routing": "prefix_affinity", "options": {"routing.load_guard": "1.5"}},
        {"admission": "bounded_queue", "options": {"admission.max_requests": "64"}},
        {"tp": 2, "precision": "fp8", "cv": 3.0},
        {"concurrency": 8},
        {"roles": "prefill:2,decode:2", "nodes": 2, "link": "25gbe", "routing": "distserve"},
    ],
    ids=str,
)
def test_options_that_the_guides_name_exist(options: dict[str, object]) -> None:
    result = headway.simulate(requests=5, **options)  # type: ignore[arg-type]
    assert result.summary["offered"] == 5
