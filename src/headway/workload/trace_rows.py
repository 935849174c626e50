"""What every trace reader yields: one row of a file, before it becomes a request."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from headway.core import PrefixExtent, Stage
from headway.errors import WorkloadError

Targets = tuple[tuple[str, int], ...]
"""(field of Slo, value) pairs that a row promises by itself."""

_SHOWN = 80  # characters of a bad value worth printing


class Row(NamedTuple):
    """One request as recorded. `time_ns` counts from whatever the file counts from."""

    line: int
    time_ns: int
    prompt_tokens: int
    output_tokens: int
    tenant: str = ""
    session: int | None = None
    slo_class: str = ""
    prefix: tuple[PrefixExtent, ...] = ()
    next_extent: int | None = None
    max_tokens: int | None = None
    targets: Targets = ()
    workflow: int | None = None
    quality_floor: float | None = None
    stages: tuple[Stage, ...] = ()


def open_lines(path: Path) -> Iterator[bytes]:
    """Stream a file's lines as bytes, without a byte order mark; `.gz` is unpacked on the way."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file):
                yield line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
    except (OSError, EOFError) as error:
        raise WorkloadError(
            f"cannot read the trace {path}: {error}: give the path of a readable file"
        ) from error


def bad_value(name: str, line: int, field: str, value: object, expected: str) -> WorkloadError:
    """Build the error for one wrong value."""
    shown = repr(value)
    if len(shown) > _SHOWN:
        shown = shown[:_SHOWN] + "..."
    msg = f"{name}:{line}: {field} is {shown}, expected {expected}: correct or delete the line"
    return WorkloadError(msg)


def bad_json(name: str, line: int, raw: bytes, error: msgspec.MsgspecError) -> WorkloadError:
    """Turn msgspec's complaint into ours, with the value it did not like."""
    text = str(error)
    found = re.fullmatch(r"(.*?) - at `\$\.(\w+).*`", text)
    if found is None:
        return bad_value(name, line, "the line", _text(raw), f"a JSON object ({text})")
    expected, field = found.groups()
    value = msgspec.json.decode(raw).get(field)
    return bad_value(name, line, field, value, expected.removeprefix("Expected ").split(", got")[0])


def bad_cell(
    name: str, line: int, header: Sequence[str], cells: Sequence[bytes], column: int, expected: str
) -> WorkloadError:
    """Build the error for a CSV cell that is wrong or not there."""
    if column >= len(cells):
        found = f"{len(cells)} columns"
        return bad_value(name, line, "the line", found, f"{len(header)}: {','.join(header)}")
    return bad_value(name, line, header[column], _text(cells[column].strip()), expected)


def whole_number(cell: bytes) -> bool:
    """Is this CSV cell a whole number of at least 0?"""
    return cell.strip().isdigit()


def columns_of(line: bytes) -> list[str]:
    """Split a CSV header into column names."""
    return [cell.strip().strip('"') for cell in _text(line).split(",")]


def column(name: str, header: Sequence[str], wanted: str) -> int:
    """Return the position of a column by its name."""
    if wanted not in header:
        raise bad_value(name, 1, "the header", ",".join(header), f"a column {wanted!r}")
    return header.index(wanted)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace").strip()
