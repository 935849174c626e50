"""`headway bench` from the command line, against a real server of known latencies."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.cli.program import main

ROOT = Path(__file__).parents[2]
VLLM_KEYS = {"completed", "failed", "total_input_tokens", "total_output_tokens", "duration"}
VLLM_KEYS |= {
    "request_throughput",
    "request_goodput",
    "output_throughput",
    "num_prompts",
    "model_id",
}
VLLM_KEYS |= {"total_token_throughput", "request_rate", "burstiness", "max_concurrency"}
VLLM_KEYS |= {
    f"{statistic}_{metric}_ms"
    for statistic in ("mean", "median", "std", "p99")
    for metric in ("ttft", "tpot", "itl", "e2el")
}
DETAILS = {"input_lens", "output_lens", "ttfts", "itls", "generated_texts", "errors", "start_times"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ROOT / "bench" / "_fixed_latency_server.py"
    command = [sys.executable, str(server), "--ttft-ms", "20", "--itl-ms", "5"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.communicate(timeout=10)


def headway(*words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "headway", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def measured(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    with pytest.raises(SystemExit) as stopped:
        main(["bench", *words, "--json", "-"])
    out, err = capsys.readouterr()
    assert stopped.value.code == 0, err
    return json.loads(out)


def test_a_table_a_page_and_vllms_keys(url: str, tmp_path: Path) -> None:
    told, page = tmp_path / "run.json", tmp_path / "run.html"
    load = (
        "--request-rate 40 --num-prompts 20 --random-input-len 30 --random-output-len 4 --tenants 2"
    )
    promises = "--slo chat:ttft=1s,share=0.5 --slo batch:e2e=9s"
    files = ["--save-detailed", "--json", str(told), "--html", str(page)]

    done = headway("bench", url, *load.split(), *promises.split(), *files)

    assert done.returncode == 0, done.stderr
    assert "Generator lag" in done.stdout
    document = json.loads(told.read_text())
    assert document.keys() >= VLLM_KEYS | DETAILS
    assert {len(document[key]) for key in DETAILS} == {20}
    assert all(len(gaps) == 3 for gaps in document["itls"])
    assert document["generated_texts"][0].split() == ["word"] * 4
    assert document["total_output_tokens"] == sum(document["output_lens"]) == 80
    assert document["total_input_tokens"] == sum(document["input_lens"]) == 600
    assert set(document["by_class"]) == {"chat", "batch"}
    assert document["tenants"] == 2
    assert document["server"]["running"]
    shown = page.read_text()
    assert shown.startswith("<!DOCTYPE html>")
    assert "Requests in flight" in shown
    assert "KV memory in use" in shown
    assert "<script src" not in shown


def test_goodput_as_in_vllm(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "--goodput ttft:5000 tpot:0.001 --max-concurrency 4 --num-prompts 8 --random-output-len 3"
    )
    document = measured(capsys, "--base-url", url, *words.split())
    assert document["slo"]["default"] == {"ttft_ms": 5000, "tpot_ms": 0.001}
    assert document["request_goodput"] == 0
    assert document["slo_misses"]["tpot"] == document["completed"] == 8
    assert (document["request_rate"], document["max_concurrency"]) == ("inf", 4)


def test_a_trace_keeps_its_lengths_its_prefixes_and_its_times(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "mooncake.jsonl"
    rows = [
        {
            "timestamp": 100 * k,
            "input_length": 1000 + k,
            "output_length": 2 + k,
            "hash_ids": [7, 10 + k],
        }
        for k in range(5)
    ]
    trace.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--trace", str(trace), "--rate-scale", "2", "--save-detailed", "--slo", "none"]
    document = measured(capsys, url, *flags)
    assert document["input_lens"] == [1000 + k for k in range(5)]
    assert document["output_lens"] == [2 + k for k in range(5)]
    assert document["start_times"] == pytest.approx([0.05 * k for k in range(5)])
    limited = measured(capsys, url, *flags, "--duration", "120ms")
    assert limited["offered"] == 3
    doubled = measured(
        capsys, url, "--trace", str(trace), "--request-rate", "50", "--requests", "3"
    )
    assert doubled["offered_rps"] == pytest.approx(50)


def test_an_interrupt_still_reports(url: str, tmp_path: Path) -> None:
    told = tmp_path / "run.json"
    words = [url, "--request-rate", "50", "--duration", "1min", "--random-output-len", "3"]
    command = [sys.executable, "-m", "headway", "bench", *words, "--json", str(told)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "PARTIAL" in out
    document = json.loads(told.read_text())
    assert document["partial"].startswith("PARTIAL")
    assert document["completed"] > 0
    assert document["offered"] == document["completed"] + document["outcomes"]["unfinished"]


def test_it_needs_no_torch(url: str) -> None:
    code = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "from headway.cli import main\n"
        f"main(['bench', '{url}', '--max-concurrency', '2', '--num-prompts', '3', '--json', '-'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["completed"] == 3


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("http://x", ["how hard", "--request-rate", "--max-concurrency"]),
        ("--request-rate 2", ["0 addresses"]),
        ("http://x http://y --request-rate 2", ["2 addresses", "http://y"]),
        ("ftp://x --request-rate 2", ["ftp://x"]),
        ("http://x --request-rate inf", ["--num-prompts"]),
        ("http://x --request-rate 2 --goodput ttft", ["--goodput ttft", "ttft:500"]),
        ("http://x --request-rate 2 --goodput ttft:1 --slo ttft=1s", ["one of them"]),
        ("http://x --request-rate 2 --endpoint embeddings", ["embeddings", "chat"]),
        ("http://x --request-rate 2 --vocab-range 5", ["--vocab-range 5", "1000:30000"]),
        ("http://x --request-rate 2 --prompts tokens", ["tokens", "ids or words"]),
        ("http://x --trace missing.csv", ["missing.csv"]),
        ("http://x --trace t --loop", ["--loop", "--duration"]),
        ("http://x --request-rate 2 --random-range-ratio 2", ["--random-range-ratio"]),
        ("http://127.0.0.1:1 --request-rate 2", ["cannot reach http://127.0.0.1:1"]),
    ],
)
def test_refusals_are_one_sentence_with_a_way_out(
    flags: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["bench", *flags.split()])
    out, err = capsys.readouterr()
    assert stopped.value.code == 2
    assert out == ""
    assert err.startswith("headway: ")
    assert err.count("\n") == 1
    assert all(word in err for word in words)
