"""Requests as a client measured them, from the result files of other tools.

Read are: `vllm bench serve` with --save-detailed (one JSON object), GuideLLM's benchmarks.json, AIPerf's
profile_export.jsonl, and request timelines as JSON lines (arrival, first and last token by request).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from headway.errors import WorkloadError

_S = 1_000_000_000
_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """One finished request. Times are nanoseconds after the first arrival; `token_times_ns` where known."""

    arrival_ns: int
    first_ns: int
    last_ns: int
    prompt_tokens: int
    output_tokens: int
    token_times_ns: tuple[int, ...] = ()


@dataclass(frozen=True)
class ClientResults:
    """Finished requests in order of arrival. `tool` names the file's origin."""

    tool: str
    model: str
    requests: list[ClientRequest]
    failed: int  # not usable: errors, no tokens


def read_client_results(path: Path) -> ClientResults:
    """Read a result file of any known kind.

    Raises:
        WorkloadError: no such file, of no known kind, or without the details of each request.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WorkloadError(f"cannot read {path}: {error.strerror}") from error
    try:
        whole = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return _read_lines(path, data)
    if isinstance(whole, dict):
        if "ttfts" in whole or "median_ttft_ms" in whole:
            return _vllm(path, whole)
        if "benchmarks" in whole:
            return _guidellm(whole)
    return _read_lines(path, data)


def _read_lines(path: Path, data: bytes) -> ClientResults:
    try:
        rows = [msgspec.json.decode(line) for line in data.splitlines() if line.strip()]
    except msgspec.DecodeError as error:
        raise WorkloadError(f"{path} is neither JSON nor JSON lines: {error}") from error
    first = rows[0] if rows and isinstance(rows[0], dict) else {}
    if isinstance(first.get("metrics"), dict) and isinstance(first.get("metadata"), dict):
        return _results("aiperf", "", map(_aiperf_request, rows))
    if "first_token_ts" in first:
        return _results("request timelines", "", map(_timeline_request, rows))
    raise WorkloadError(
        f"{path} is no result file that we know: give a run log, vllm bench serve --save-detailed, "
        "GuideLLM's benchmarks.json or AIPerf's profile_export.jsonl"
    )


def _vllm(path: Path, whole: Mapping[str, Any]) -> ClientResults:
    if not all(whole.get(key) for key in ("ttfts", "itls", "input_lens", "output_lens")):
        raise WorkloadError(
            f"{path} has no details of requests: run vllm bench serve --save-detailed"
        )
    starts = whole.get("start_times")
    if not starts:
        raise WorkloadError(
            f"{path} does not say when each request began: use a vllm that writes start_times"
        )
    columns = (whole["input_lens"], whole["output_lens"], whole["ttfts"], whole["itls"])
    return _results(
        "vllm bench serve",
        str(whole.get("model_id", "")),
        (_vllm_request(*row) for row in zip(starts, *columns, strict=False)),
    )


def _vllm_request(
    start: float, prompt: int, output: int, ttft: float, itls: list[float]
) -> ClientRequest | None:
    if not ttft or output < 1 or prompt < 1:
        return None
    arrival = round(start * _S)
    times = [arrival + round(ttft * _S)]
    for gap in itls:
        times.append(times[-1] + round(gap * _S))
    # A chunk of the stream may carry several tokens: then there are fewer times than tokens.
    each = tuple(times) if len(times) == output else ()
    return ClientRequest(arrival, times[0], times[-1], prompt, output, each)


def _guidellm(whole: Mapping[str, Any]) -> ClientResults:
    """Every benchmark of the file has its own clock time: they follow each other."""
    rows: list[Mapping[str, Any]] = []
    lost = 0
    for benchmark in whole["benchmarks"]:
        requests = benchmark.get("requests") or {}
        rows += requests.get("successful") or []
        lost += len(requests.get("errored") or [])
    model = str(((whole.get("args") or {}).get("model")) or "")
    found = _results("guidellm", model, map(_guidellm_request, rows))
    return ClientResults(found.tool, found.model, found.requests, found.failed + lost)


def _guidellm_request(row: Mapping[str, Any]) -> ClientRequest | None:
    start = row.get("request_start_time", row.get("start_time"))
    prompt, output = row.get("prompt_tokens"), row.get("output_tokens")
    ttft_ms, itl_ms = row.get("time_to_first_token_ms"), row.get("inter_token_latency_ms")
    if start is None or not prompt or not output or ttft_ms is None:
        return None
    arrival = round(start * _S)
    first = arrival + round(ttft_ms * _MS)
    last = first + round((itl_ms or 0.0) * (output - 1) * _MS)
    return ClientRequest(arrival, first, last, int(prompt), int(output))


def _aiperf_request(row: Mapping[str, Any]) -> ClientRequest | None:
    metadata, metrics = row.get("metadata") or {}, row.get("metrics") or {}
    if row.get("error") or metadata.get("was_cancelled"):
        return None
    if metadata.get("benchmark_phase", "profiling") != "profiling":
        return None

    def value(*names: str) -> float | None:
        for name in names:
            entry = metrics.get(name)
            if isinstance(entry, dict) and isinstance(entry.get("value"), int | float):
                return float(entry["value"])
        return None

    start = metadata.get("request_start_ns", metadata.get("timestamp_ns"))
    prompt = value("input_sequence_length")
    output = value("output_sequence_length", "output_token_count")
    ttft_ms, e2e_ms = value("time_to_first_token", "ttft"), value("request_latency")
    if start is None or not prompt or not output or ttft_ms is None or e2e_ms is None:
        return None
    arrival = int(start)
    first, last = arrival + round(ttft_ms * _MS), arrival + round(e2e_ms * _MS)
    return ClientRequest(arrival, first, max(first, last), int(prompt), int(output))


def _timeline_request(row: Mapping[str, Any]) -> ClientRequest | None:
    """TTFT starts when the engine queued the request; arrivals are the client's, on another clock."""
    if not row.get("first_token_ts") or not row.get("output_toks") or not row.get("input_toks"):
        return None
    arrival = round(float(row["arrival_time"]) * _S)
    queued = float(row.get("queued_ts") or row["scheduled_ts"])
    first = arrival + round((float(row["first_token_ts"]) - queued) * _S)
    last = arrival + round((float(row["last_token_ts"]) - queued) * _S)
    return ClientRequest(arrival, first, last, int(row["input_toks"]), int(row["output_toks"]))


def _results(tool: str, model: str, rows: Iterable[ClientRequest | None]) -> ClientResults:
    every = list(rows)
    usable = sorted((row for row in every if row is not None), key=lambda row: row.arrival_ns)
    if not usable:
        raise WorkloadError(
            f"the {tool} results have no finished request with its times and lengths"
        )
    origin = usable[0].arrival_ns
    moved = [
        ClientRequest(
            row.arrival_ns - origin,
            row.first_ns - origin,
            row.last_ns - origin,
            row.prompt_tokens,
            row.output_tokens,
            tuple(time - origin for time in row.token_times_ns),
        )
        for row in usable
    ]
    return ClientResults(tool, model, moved, len(every) - len(usable))
