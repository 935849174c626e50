import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headway.cli.program import app, main
from headway.runtime import policy_names
from headway.timing import devices, model_names

SOURCE = Path(__file__).parents[2] / "src"
FEW = ["simulate", "--requests", "30"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return python("-m", "headway", *arguments)


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence on stderr with which a command refuses."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    out, err = capsys.readouterr()
    assert stopped.value.code == 2
    assert out == ""
    assert err.startswith("headway: ")
    assert err.count("\n") == 1
    return err


def test_json_alone_on_stdout_and_equal_bytes_but_for_meta() -> None:
    first, second = (run(*FEW, "--json", "-") for _ in range(2))
    assert first.returncode == 0
    assert first.stderr == ""
    documents = [json.loads(done.stdout) for done in (first, second)]
    for document in documents:
        del document["meta"]
    assert json.dumps(documents[0]) == json.dumps(documents[1])
    assert {"p99_itl_ms", "request_goodput", "completed", "config"} <= set(documents[0])


def test_a_table_and_files(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    files = [str(tmp_path / name) for name in ("run.json", "run.html")]
    done = run(*FEW, "--json", files[0], "--html", files[1])
    assert done.returncode == 0, done.stderr
    assert "SLO attainment" in done.stdout
    assert len(done.stdout.splitlines()) <= 40
    assert json.loads(Path(files[0]).read_text())["completed"] == 30
    assert Path(files[1]).read_text().startswith("<!DOCTYPE html>")


def test_the_demo_needs_neither_torch_nor_a_file() -> None:
    code = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "from headway.cli import main\n"
        "main(['compare', '--demo', '--rates', '30', '--json', '-'])\n"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert {row["batching"] for row in rows} == set(policy_names("batching"))
    assert all(set(row["summary"]["by_class"]) == {"chat", "batch"} for row in rows)
    assert all(row["summary"]["tenants"] == 2 for row in rows)


def test_flags_reach_the_run() -> None:
    runner = CliRunner()
    flags = (
        "simulate --device a100 --model qwen3-8b --tp 2 --instances 2 --rate 12 --requests 0.04k --cv 2 "
        "--tenants 3 --tenant-skew 0 --batching prefill_first --ordering shortest_prompt --memory swap "
        "--routing two_choices --admission bounded_queue --set routing.choices=2 --set prefill_first.max_num_seqs=9 "
        "--slo chat:ttft=1s --slo late=1% --quality mmlu=0.7 --no-prefix-cache --block-tokens 32 --seed 5 "
        "--memory-utilisation 80% --report-interval 100ms --precision fp8 --max-tokens 2k --json -"
    )
    done = runner.invoke(app, flags.split())
    assert done.exit_code == 0, done.output
    document = json.loads(done.output)
    config = document["config"]
    assert config["gpu"] == "a100-sxm-80gb"
    assert (config["tp"], config["instances"], config["requests"], config["seed"]) == (2, 2, 40, 5)
    assert config["options"]["batching.max_num_seqs"] == 9
    assert config["memory_utilisation"] == 0.8
    assert config["report_interval_s"] == 0.1
    assert config["max_tokens"] == 2000
    assert not config["prefix_cache"]
    assert document["quality"] == {"mmlu": 0.7}
    assert set(document["by_class"]) == {"chat"}


def test_capacity_and_compare_as_json() -> None:
    runner = CliRunner()
    done = runner.invoke(
        app, [*FEW, "--slo", "ttft=60ms", "--capacity", "--target", "95%", "--json", "-"]
    )
    assert json.loads(done.output)["capacity_rps"] > 0
    flags = [
        "compare",
        "--requests",
        "20",
        "--batching",
        "sarathi,splitfuse",
        "--rates",
        "5,2x",
        "--json",
        "-",
    ]
    rows = json.loads(runner.invoke(app, flags).output)["rows"]
    assert [(row["batching"], row["rate_rps"]) for row in rows] == [
        ("sarathi", 5.0),
        ("sarathi", 11.06),
        ("splitfuse", 5.0),
        ("splitfuse", 11.06),
    ]


def test_lists() -> None:
    runner = CliRunner()
    listed = json.loads(runner.invoke(app, ["policies", "--json"]).output)
    assert [one["name"] for one in listed if one["kind"] == "batching"] == policy_names("batching")
    assert {("admission", "bounded_queue"), ("control", "none")} <= {
        (one["kind"], one["name"]) for one in listed
    }
    queue = next(one for one in listed if one["name"] == "bounded_queue")
    assert queue["options"] == {"max_requests": 256}
    assert all(one["about"] for one in listed)
    names = [one["name"] for one in json.loads(runner.invoke(app, ["models", "--json"]).output)]
    assert names == list(model_names())
    names = [one["name"] for one in json.loads(runner.invoke(app, ["devices", "--json"]).output)]
    assert names == list(devices())
    for verb in ("policies", "models", "devices"):
        done = runner.invoke(app, [verb])
        assert done.exit_code == 0
    assert runner.invoke(app, ["version"]).output.startswith("headway ")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--batching sarathy", ["sarathy", "did you mean sarathi?"]),
        ("--model llama-9b", ["llama-9b", "llama"]),
        ("--gpu h101", ["h101", "h100"]),
        ("--model llama-3.1-70b", ["needs", "GB", "tensor parallel"]),
        ("--tp 3", ["tensor parallel 3", "use 2 or 4"]),
        ("--kv-blocks 5", ["all", "rejected", "80"]),
        ("--trace missing.csv", ["missing.csv"]),
        ("--set token_budget=3", ["token_budget=3", "batching.token_budget=1024"]),
        ("--set batching.token_budget=many", ["many", "int"]),
        ("--set batching.tokens=3", ["tokens", "token_budget"]),
        ("--slo ttft:1s", ["ttft:1s", "ttft=1s,tpot=60ms"]),
        ("--rate -2", ["--rate", "-2", "above 0"]),
        ("--requests 1.5", ["--requests", "1.5", "whole"]),
        ("--target 2", ["--target", "share"]),
        ("--quality good", ["good", "mmlu=0.68"]),
        ("--batchng sarathi", ["--batchng", "--batching"]),
        ("--json /nowhere/at/all.json --requests 3", ["/nowhere/at/all.json"]),
    ],
)
def test_refusals_are_one_sentence_with_a_way_out(
    flags: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    if "nowhere" in flags:  # the run itself was fine, and its table is shown
        flags += " --json /nowhere/at/all.json"
        done = run("simulate", *flags.split())
        assert done.returncode == 2
        assert all(word in done.stderr for word in words)
        return
    sentence = refused(capsys, "simulate", *flags.split())
    assert all(word in sentence for word in words)


def test_a_bad_line_is_named_with_its_file_and_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "azure.csv"
    trace.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n2023-11-16 18:15:47.1,x,4\n"
    )
    assert f"{trace}:3" in refused(capsys, "simulate", "--trace", str(trace))


def test_the_demo_does_not_ignore_flags_silently(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--trace" in refused(capsys, "compare", "--demo", "--trace", "t.csv")


def test_an_interrupt_is_one_line_and_130(tmp_path: Path) -> None:
    policy = tmp_path / "interrupting.py"
    policy.write_text(
        "import signal\n"
        "class Interrupting:\n"
        "    def plan(self, view):\n"
        "        signal.raise_signal(signal.SIGINT)\n"
    )
    done = run(*FEW, "--batching", str(policy))
    assert done.returncode == 130
    assert done.stdout == ""
    assert done.stderr == "interrupted\n"


def test_a_reader_that_leaves_is_no_error() -> None:
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    command = f"{sys.executable} -m headway models | head -1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert "Traceback" not in done.stderr
