"""BurstGPT traces: `Timestamp, Model, Request tokens, Response tokens, Total tokens, Log Type`.

`BurstGPT_3` adds `Session ID` and `Elapsed time` in front, so columns are found by name. Timestamps are
seconds since midnight of day 1. A failed request has `Response tokens` 0: `Trace` skips and counts it.
The model becomes the tenant, the log type ("Conversation log", "API log") the SLO class
("conversation", "api"). What a session's turns share is not recorded, so there are no prefixes.

Source: Wang et al., "BurstGPT: A Real-World Workload Dataset to Optimize LLM Serving Systems", KDD 2025.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from headway.core import NS_PER_S
from headway.errors import WorkloadError
from headway.workload.trace_rows import Row, bad_cell, column, columns_of, whole_number

REQUIRED = ("Timestamp", "Request tokens", "Response tokens")


def rows(lines: Iterable[bytes], name: str) -> Iterator[Row]:
    """Read rows, failed ones included; `name` is what errors call the file."""
    source = iter(lines)
    header = columns_of(next(source, b""))
    at, prompt_at, output_at = (column(name, header, wanted) for wanted in REQUIRED)
    model_at = header.index("Model") if "Model" in header else None
    kind_at = header.index("Log Type") if "Log Type" in header else None
    session_at = header.index("Session ID") if "Session ID" in header else None
    known: dict[bytes, str] = {}  # few models and log types: decode each once
    for number, line in enumerate(source, 2):
        cells = line.rstrip().split(b",")
        try:
            time_ns = round(float(cells[at]) * NS_PER_S)
            prompt_tokens, output_tokens = int(cells[prompt_at]), int(cells[output_at])
            tenant = "" if model_at is None else _word(cells[model_at], known)
            kind = "" if kind_at is None else _word(cells[kind_at], known)
            session = None if session_at is None else _session(cells[session_at])
        except (ValueError, IndexError, OverflowError):
            if not line.strip():
                continue
            raise _diagnose(name, number, header, cells) from None
        if prompt_tokens < 0 or output_tokens < 0 or time_ns < 0:
            raise _diagnose(name, number, header, cells)
        yield Row(number, time_ns, prompt_tokens, output_tokens, tenant, session, _class_of(kind))


def _word(cell: bytes, known: dict[bytes, str]) -> str:
    word = known.get(cell)
    if word is None:
        word = known[cell] = cell.decode("utf-8", "replace").strip().strip('"')
    return word


def _class_of(kind: str) -> str:
    return kind.lower().removesuffix(" log")


def _session(cell: bytes) -> int | None:
    """Return the session's number; one that is not a number becomes one, the same every time."""
    if cell.isdigit():
        return int(cell)
    cell = cell.strip().strip(b'"')
    if not cell:
        return None
    return int.from_bytes(hashlib.blake2b(cell, digest_size=8).digest(), "big") >> 1


def _diagnose(name: str, number: int, header: list[str], cells: list[bytes]) -> WorkloadError:
    at, *counts = (header.index(wanted) for wanted in REQUIRED)
    for count in counts:
        if count >= len(cells) or not whole_number(cells[count]):
            return bad_cell(name, number, header, cells, count, "a whole number, 0 or more")
    wrong = len(cells) if len(cells) < len(header) else at
    return bad_cell(name, number, header, cells, wrong, "seconds, 0 or more")
