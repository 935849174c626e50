"""Does `headway bench` measure what others measure, and what is true? Against a server of known latencies.

The same load is sent to `_fixed_latency_server.py` by `headway bench` and by GuideLLM, one after the other, in pairs
whose order alternates. The server writes down when it received each request and when it handed each event to
its socket; ratios are to that record of the same run, so that neither the machine's pace nor the server's own
lateness counts. TTFT and E2E latency of the closed loop count from the sending in both tools; so do those of the
open loop (`from_send`), because GuideLLM's count from its own sending.

GuideLLM is not a dependency (it brings torch): name its command with --guidellm, or leave it out. A
reimplementation of its definitions would be no peer, so there is none here.

    python bench/bench_agreement.py --guidellm /path/to/bin/guidellm --json agreement.json
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

HERE = Path(__file__).parent
TTFT_MS, ITL_MS = 200.0, 20.0
METRICS = ("ttft", "itl", "e2el")
TOLERANCE = 0.03


@dataclass(frozen=True)
class Load:
    """One way to ask; `output` tokens a request."""

    name: str
    headway: tuple[str, ...]
    guidellm: str
    requests: int
    output: int = 16


LOADS = (
    Load("closed loop of 4", ("--max-concurrency", "4"), "kind=concurrent,streams=4", 40),
    Load("Poisson, 8 requests/s", ("--request-rate", "8"), "kind=poisson,rate=8", 60),
)


@contextmanager
def server() -> Iterator[str]:
    flags = ["--ttft-ms", str(TTFT_MS), "--itl-ms", str(ITL_MS)]
    command = [sys.executable, str(HERE / "_fixed_latency_server.py"), *flags]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.communicate(timeout=10)


def truth(url: str, load: Load) -> dict[str, float]:
    """Means of what the server did for the last `load.requests` requests that it answered whole."""
    with urllib.request.urlopen(f"{url}/log", timeout=10) as answer:  # noqa: S310
        entries = [one for one in json.load(answer) if len(one.get("sent_ns", ())) == load.output]
    entries = entries[-load.requests :]
    spans = [(one["received_ns"], one["sent_ns"]) for one in entries]
    return {
        "ttft": mean((sent[0] - received) / 1e6 for received, sent in spans),
        "itl": mean((sent[-1] - sent[0]) / 1e6 / (len(sent) - 1) for _, sent in spans),
        "e2el": mean((sent[-1] - received) / 1e6 for received, sent in spans),
    }


def by_headway(url: str, load: Load, folder: Path) -> dict[str, float]:
    told = folder / "headway.json"
    size = ["--num-prompts", str(load.requests), "--random-input-len", "50"]
    size += ["--random-output-len", str(load.output)]
    command = [sys.executable, "-m", "headway", "bench", url, *load.headway, *size]
    _quietly([*command, "--json", str(told)])
    document = json.loads(told.read_text("utf-8"))
    sent = document["from_send"]
    return {
        "ttft": sent["mean_ttft_ms"],
        "itl": document["mean_itl_ms"],
        "e2el": sent["mean_e2el_ms"],
        "lag_p99": document["generator"]["lag_p99_ms"],
    }


def by_guidellm(command: str, url: str, load: Load, folder: Path) -> dict[str, float]:
    data, told = folder / "data.jsonl", folder / "guidellm.json"
    rows = (
        {
            "prompt": " ".join(f"w{number}x{place}" for place in range(50)),
            "output_tokens_count": load.output,
        }
        for number in range(load.requests + 20)
    )
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    backend = f"kind=openai_http,target={url},model=fixed-latency,request_format=/v1/completions"
    flags = ["--backend", backend, "--profile", load.guidellm]
    flags += ["--constraint", f"kind=max_requests,count={load.requests}"]
    flags += ["--data", f"kind=json_file,path={data}", "--output", f"kind=json,path={told}"]
    _quietly([command, "run", *flags, "--disable-console"])
    metrics: Any = json.loads(told.read_text("utf-8"))["benchmarks"][0]["metrics"]
    return {
        "ttft": metrics["time_to_first_token_ms"]["successful"]["mean"],
        "itl": metrics["inter_token_latency_ms"]["successful"]["mean"],
        "e2el": 1000 * metrics["request_latency"]["successful"]["mean"],
    }


def _quietly(command: list[str]) -> None:
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, timeout=300
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stderr[-2000:] or done.stdout[-2000:]}")


def measure(load: Load, guidellm: str | None, pairs: int) -> list[dict[str, Any]]:
    """One row a run: tool, load, what it told and what was true."""
    rows = []
    tools = ["headway", *(["guidellm"] if guidellm else [])]
    for pair in range(pairs):
        for tool in tools if pair % 2 == 0 else reversed(tools):
            print(f"{load.name}: {tool}, {pair + 1} of {pairs}", file=sys.stderr, flush=True)
            with server() as url, tempfile.TemporaryDirectory() as folder:
                if tool == "headway":
                    told = by_headway(url, load, Path(folder))
                else:
                    told = by_guidellm(str(guidellm), url, load, Path(folder))
                rows.append(
                    {"load": load.name, "tool": tool, "told": told, "truth": truth(url, load)}
                )
    return rows


def generator_alone(rate_rps: int = 200, seconds: int = 8) -> dict[str, float]:
    """What the generator says of itself at a high rate. The server shares the machine: this is the worst case."""
    load = Load("lag", ("--request-rate", str(rate_rps)), "", rate_rps * seconds)
    with server() as url, tempfile.TemporaryDirectory() as folder:
        by_headway(url, load, Path(folder))
        document = json.loads((Path(folder) / "headway.json").read_text("utf-8"))
    told: dict[str, float] = document["generator"]
    return told


def verdict(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Median over runs of told / true, by load and metric, and of headway's ratio to GuideLLM's."""
    lines = []
    for load in dict.fromkeys(row["load"] for row in rows):
        for metric in METRICS:
            line: dict[str, Any] = {"load": load, "metric": metric}
            for tool in ("headway", "guidellm"):
                mine = [row for row in rows if (row["load"], row["tool"]) == (load, tool)]
                ratios = [row["told"][metric] / row["truth"][metric] for row in mine]
                line[tool] = round(median(ratios), 5) if ratios else None
            if line["guidellm"]:
                line["between"] = round(line["headway"] / line["guidellm"], 5)
            kept = [line[key] for key in ("headway", "between") if line.get(key)]
            line["within"] = all(abs(ratio - 1) <= TOLERANCE for ratio in kept)
            lines.append(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--guidellm", default=shutil.which("guidellm"), metavar="COMMAND")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    alone = generator_alone()
    rows = [row for load in LOADS for row in measure(load, given.guidellm, given.pairs)]
    lines = verdict(rows)
    if not given.guidellm:
        print("GuideLLM is not installed: only the server's own record is compared with.")
    print(
        f"{'load':24}{'metric':8}{'headway/true':>14}{'guidellm/true':>15}{'headway/guidellm':>18}"
    )
    for line in lines:
        cells = (line[key] if line.get(key) else "–" for key in ("headway", "guidellm", "between"))
        true, peer, between = cells
        judged = "within 3 %" if line["within"] else "NOT within 3 %"
        print(f"{line['load']:24}{line['metric']:8}{true:>14}{peer:>15}{between:>18}  {judged}")
    print(
        f"generator at 200 requests/s: lag p50 {alone['lag_p50_ms']:.3g} ms, p99 {alone['lag_p99_ms']:.3g} ms "
        f"(target 2 ms on a quiet machine), {alone['cpu_us_per_token']:.3g} µs of CPU a token"
    )
    if given.json:
        told = {"rows": rows, "verdict": lines, "generator": alone}
        Path(given.json).write_text(json.dumps(told, indent=2), "utf-8")


if __name__ == "__main__":
    main()
