"""The run log of one instance: who came when, what each step computed and how long it took, who ended how.

JSON lines, tagged, in the order they happened; all times are integer nanoseconds of the instance's clock. A file
that a crash cut short is read up to its last whole line.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from headway.core.request import PrefixExtent, Slo
from headway.errors import WorkloadError


class Opened(msgspec.Struct, tag="opened", frozen=True):
    """First line: what ran. `policies` is kind -> name, `options` "policy.option" -> value."""

    model: str
    device: str
    dtype: str
    layers: int
    blocks: int
    block_tokens: int
    policies: dict[str, str]
    options: dict[str, str] = {}
    version: int = 1


class Submitted(msgspec.Struct, tag="submitted", frozen=True):
    """A request reached the instance. `arrival_ns` is when its client sent it, `now_ns` when it came in."""

    id: int
    now_ns: int
    arrival_ns: int
    prompt_tokens: int
    max_tokens: int
    slo: Slo
    tenant: str = ""
    session: int | None = None
    prefix: tuple[PrefixExtent, ...] = ()
    next_extent: int | None = None


class WorkLine(msgspec.Struct, array_like=True, frozen=True):
    """One work of a step: `context` tokens were computed before it, `tokens` were computed in it."""

    id: int
    context: int
    tokens: int
    emitted: int
    draft_tokens: int = 0
    first_layer: int = 0
    last_layer: int = -1  # -1: the model's last


class Stepped(msgspec.Struct, tag="stepped", frozen=True):
    """A step landed. `start_ns` is when it could begin: given out, and the one before it in its lane done."""

    id: int
    lane: str
    start_ns: int
    end_ns: int
    works: tuple[WorkLine, ...]
    status: str = "done"
    parts_ns: dict[str, int] = {}  # such as plan, draft, layers, head: what the time went to


class Ended(msgspec.Struct, tag="ended", frozen=True):
    """A request ended. `outcome` as `core.fleet` names them."""

    id: int
    now_ns: int
    outcome: str
    output_tokens: int
    cached_tokens: int = 0
    preemptions: int = 0
    answer: tuple[
        int, ...
    ] = ()  # hashes of the blocks that continue the prompt's, for the prefix cache


Line = Opened | Submitted | Stepped | Ended
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


class RunLogWriter:
    """Appends lines to a binary file; the caller opens, flushes and closes it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, line: Line) -> None:
        """Append one line."""
        self._file.write(_encoder.encode(line) + b"\n")


@dataclass
class RunLog:
    """A run log, read. Lists keep the file's order; `lines` are all but the first, as they happened."""

    opened: Opened
    submitted: list[Submitted] = field(default_factory=list)
    steps: list[Stepped] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


def read_run_log(path: Path) -> RunLog:
    """Read a run log.

    Raises:
        WorkloadError: no such file, not a run log, or a damaged line that is not the last.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise WorkloadError(f"cannot read {path}: {error.strerror}") from error
    decoded = list(_decode(path, lines))
    if not decoded or not isinstance(decoded[0], Opened):
        raise WorkloadError(f"{path} is no run log: its first line does not say what ran")
    log = RunLog(decoded[0], lines=decoded[1:])
    for line in decoded[1:]:
        if isinstance(line, Submitted):
            log.submitted.append(line)
        elif isinstance(line, Stepped):
            log.steps.append(line)
        elif isinstance(line, Ended):
            log.ended.append(line)
    return log


def _decode(path: Path, lines: list[bytes]) -> Iterable[Line]:
    for number, line in enumerate(lines, 1):
        try:
            yield _decoder.decode(line)
        except msgspec.MsgspecError as error:
            if number == len(lines) > 1:
                return  # cut short
            raise WorkloadError(f"{path}:{number}: not a line of a run log: {error}") from error
