"""Azure LLM inference traces, 2023 and 2024: `TIMESTAMP,ContextTokens,GeneratedTokens`.

Timestamps are wall-clock with up to nine fractional digits (seven in 2023), with or without an offset
(2024 has `+00:00`).

Source: github.com/Azure/AzurePublicDataset; Patel et al., "Splitwise", ISCA 2024 (the 2023 files).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from headway.core import NS_PER_S
from headway.errors import WorkloadError
from headway.workload.trace_rows import Row, bad_cell, column, columns_of, whole_number

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STAMP = re.compile(
    rb"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):?(\d\d))?"
)
_FAST = 27  # characters of `2023-11-16 18:15:46.6805900`
_MINUTE = 17  # of them up to the seconds


def rows(lines: Iterable[bytes], name: str) -> Iterator[Row]:
    """Read rows; `name` is what errors call the file."""
    source = iter(lines)
    header = columns_of(next(source, b""))
    at, prompt_at, output_at = (column(name, header, wanted) for wanted in COLUMNS)
    minute, minute_ns = b"", 0
    for number, line in enumerate(source, 2):
        cells = line.split(b",")
        try:
            stamp = cells[at]
            # The layout of the 2023 files, with the date and minute parsed once a minute.
            if len(stamp) == _FAST and stamp[20:].isdigit():
                if stamp[:_MINUTE] != minute:
                    minute_ns = time_ns(stamp[:_MINUTE] + b"00")
                    minute = stamp[:_MINUTE]
                when = minute_ns + int(stamp[17:19]) * NS_PER_S + int(stamp[20:]) * 100
            else:
                when = time_ns(stamp)
            prompt_tokens, output_tokens = int(cells[prompt_at]), int(cells[output_at])
        except (ValueError, IndexError):
            if not line.strip():
                continue
            raise _diagnose(name, number, header, cells) from None
        if prompt_tokens < 0 or output_tokens < 0:
            raise _diagnose(name, number, header, cells)
        yield Row(number, when, prompt_tokens, output_tokens)


def time_ns(stamp: bytes) -> int:
    """Nanoseconds since 1970 of a timestamp; without an offset it counts as UTC.

    Raises:
        ValueError: not a timestamp.
    """
    found = _STAMP.fullmatch(stamp.strip().strip(b'"'))
    if found is None:
        raise ValueError(stamp)
    date, clock, second, fraction, sign, hours, minutes = found.groups(b"")
    start = datetime.fromisoformat(f"{date.decode()}T{clock.decode()}:{second.decode()}+00:00")
    if sign:
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        start = start - offset if sign == b"+" else start + offset
    return (start - _EPOCH) // timedelta(seconds=1) * NS_PER_S + int(fraction.ljust(9, b"0"))


def _diagnose(name: str, number: int, header: list[str], cells: list[bytes]) -> WorkloadError:
    at, *counts = (header.index(wanted) for wanted in COLUMNS)
    for count in counts:
        if count >= len(cells) or not whole_number(cells[count]):
            return bad_cell(name, number, header, cells, count, "a whole number, 0 or more")
    return bad_cell(name, number, header, cells, at, "a time like 2023-11-16 18:15:46.6805900")
