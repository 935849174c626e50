"""`calibrate`, `whatif` and `--profile` from the command line."""

from __future__ import annotations

import json
import re
import sys
from functools import partial
from pathlib import Path

import pytest

from headway.cli.program import main
from headway.clocks import VirtualClock
from headway.core import NS_PER_MS, Request
from headway.core.protocols import ARRIVAL
from headway.host.logged_executor import HostLog, LoggedExecutor, LoggedSink
from headway.metrics import Recorder
from headway.records import Opened
from headway.runtime import Instance, InstanceOptions, load_policy
from headway.sim import Lengths, Timed
from headway.timing import Affine


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 40 requests on a machine of whole milliseconds."""
    path = tmp_path_factory.mktemp("log") / "run.jsonl"
    clock, recorder, lengths = VirtualClock(), Recorder(), Lengths({}, 18)
    policies = {"batching": "sarathi", "ordering": "fcfs", "memory": "recompute"}
    written = HostLog(path, Opened("gemma-3-270m", "cpu", "fp32", 18, 500, 16, policies), clock)
    timing = Affine(3_000_000, 40_000, 100, 250_000, layers=18)
    instance = Instance(
        clock,
        LoggedExecutor(Timed(clock, timing, lengths), written),
        (
            load_policy("batching", "sarathi"),
            load_policy("ordering", "fcfs"),
            load_policy("memory", "recompute"),
        ),
        InstanceOptions(500, leap=False),
        LoggedSink(recorder, written),
    )

    def submit(request: Request) -> None:
        recorder.on_offer(request)
        lengths.output_tokens[request.id] = 10 + request.id % 7
        assert instance.submit(request) is None
        written.submitted(request, clock.now_ns())

    for n in range(40):
        request = Request(n, n * 30 * NS_PER_MS, 20 + 13 * (n % 9), 64)
        clock.call_at(request.arrival_ns, partial(submit, request), ARRIVAL, n)
    clock.run()
    written.close()
    return path


def done(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    out, err = capsys.readouterr()
    assert stopped.value.code == 0, err
    return out, err


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    out, err = capsys.readouterr()
    assert (stopped.value.code, out, err.count("\n")) == (2, "", 1)
    return err


def test_a_profile_goes_from_a_log_into_a_simulation(
    capsys: pytest.CaptureFixture[str], log: Path, tmp_path: Path
) -> None:
    profile = str(tmp_path / "p.toml")
    out, err = done(capsys, "calibrate", str(log), "--output", profile)
    assert "MAPE" in out and "wrote" in err
    few = ("--requests", "20", "--max-tokens", "64", "--json", "-")
    out, _ = done(capsys, "simulate", "--profile", profile, *few)
    config = json.loads(out)["config"]
    assert config["model"] == "gemma-3-270m" and config["gpu"] == "cpu"
    assert config["kv_blocks"] == 500 and config["profile"] == profile
    assert "profile" in config["timing"]
    again, _ = done(capsys, "simulate", "--profile", profile, "--gpu", "cpu", *few)
    same = json.loads(again)
    assert same["p99_ttft_ms"] == json.loads(out)["p99_ttft_ms"]
    assert "leave out --gpu" in refused(
        capsys, "simulate", "--profile", profile, "--gpu", "a100", *few
    )
    assert "cannot read" in refused(capsys, "simulate", "--profile", "absent.toml", *few)
    compared, _ = done(
        capsys, "compare", "--profile", profile, "--batching", "sarathi,prefill_first", *few
    )
    assert compared


def test_json_and_the_profile_can_go_to_stdout(
    capsys: pytest.CaptureFixture[str], log: Path
) -> None:
    out, _ = done(capsys, "calibrate", str(log), "--json", "-")
    assert json.loads(out)["profile"]["model"] == "gemma-3-270m"
    out, _ = done(capsys, "calibrate", str(log), "-o", "-")
    assert out.startswith("# Measured") and "version = 1" in out


def test_what_if_prints_three_columns_and_writes_files(
    capsys: pytest.CaptureFixture[str], log: Path, tmp_path: Path
) -> None:
    pytest.importorskip("plotly")
    files = [str(tmp_path / name) for name in ("w.json", "w.html")]
    out, _ = done(
        capsys, "whatif", str(log), "--batching", "prefill_first", "--draws", "3",
        "--slo", "ttft=200ms", "--json", files[0], "--html", files[1],
    )  # fmt: skip
    assert re.search(r"measured +replayed +error +changed", out)
    document = json.loads(Path(files[0]).read_text())
    assert document["change"] == ["batching prefill_first"]
    assert document["metrics"]["p50_ttft_ms"]["error"] == pytest.approx(0, abs=1e-3)
    assert Path(files[1]).read_text().startswith("<!DOCTYPE html>")


def test_without_a_change_it_says_what_could_be_asked(
    capsys: pytest.CaptureFixture[str], log: Path
) -> None:
    out, _ = done(capsys, "whatif", str(log), "--draws", "2")
    assert "nothing was changed" in out
    assert "--batching" in out and "--gpu" in out


def test_refusals_are_one_sentence(
    capsys: pytest.CaptureFixture[str], log: Path, tmp_path: Path
) -> None:
    assert "cannot read" in refused(capsys, "whatif", str(tmp_path / "absent"))
    assert "sarathi" in refused(capsys, "whatif", str(log), "--batching", "sarahti")
    assert "no result file" in refused(capsys, "calibrate", str(_text(tmp_path, "{}")))
    assert "leave out --measured" in refused(capsys, "whatif", str(log), "--measured-blocks", "9")


def test_a_missing_scipy_names_the_extra(
    capsys: pytest.CaptureFixture[str], log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    assert "headway[calibrate]" in refused(capsys, "calibrate", str(log))


def _text(folder: Path, text: str) -> Path:
    path = folder / "text"
    path.write_text(text)
    return path
