"""The measurements run and say what they should; what they measure is not judged here."""

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench"


def _run(*words: str) -> str:
    command = [sys.executable, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_sim_speed_says_measured_target_and_verdict_and_writes_the_same_as_json(
    tmp_path: Path,
) -> None:
    told = tmp_path / "speed.json"

    printed = _run(
        str(BENCH / "sim_speed.py"), "--quick", "--only", "cli", "peers", "--json", str(told)
    )

    document = json.loads(told.read_text("utf-8"))
    by_name = {row["name"]: row for row in document["rows"]}
    assert by_name["import headway stays light"]["met"] is True
    row = by_name["headway --help"]
    assert row["met"] is (row["measured"] <= row["target"])
    assert row["samples"]
    assert all(name in printed for name in by_name)
    assert "published, not measured here" in printed.lower()
    assert document["machine"]["cores"] > 0


def test_a_fleet_in_a_child_completes_every_request() -> None:
    told = json.loads(_run(str(BENCH / "_big_fleet.py"), "300", "20"))

    assert told["completed"] == 300
    assert told["cpu_s"] > 0


def test_live_policies_compares_two_hosts_by_turns_and_gives_an_interval(tmp_path: Path) -> None:
    told = tmp_path / "policies.json"
    script = str(BENCH / "live_policies.py")

    printed = _run(script, "--sim", "--quick", "--only", "d", "--json", str(told))

    (row,) = json.loads(told.read_text("utf-8"))["rows"]
    assert row["pairs"] == len(row["ours"]) == len(row["baseline"]) == 2
    low, high = row["interval_90"]
    assert low <= row["ratio"] <= high
    assert row["ratio"] > row["goal"]  # of hosts that accept drafts as often as not
    assert row["met"] in ("yes", "yes?")
    assert row["what"] in printed
