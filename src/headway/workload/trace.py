"""A recorded trace as a workload: any of the known formats, scaled, cut, or started again.

A trace is read as it is offered, line by line, and never held. The first request of a foreign format
arrives at time 0; our own format says when requests arrive. Rows without prompt or output (failed
requests, in BurstGPT) are skipped and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from headway.core import NO_SLO, NS_PER_S, Request, Slo
from headway.errors import OptionError, WorkloadError
from headway.workload import azure, burstgpt, jsonl, mooncake
from headway.workload.offered import (
    DEFAULT_MAX_TOKENS,
    Offered,
    cap_for,
    check_cap,
    salt_of,
    salted,
)
from headway.workload.trace_rows import Row, Targets, columns_of, open_lines


class Format(NamedTuple):
    """A kind of trace file."""

    name: str
    rows: Callable[[Iterable[bytes], str], Iterator[Row]]
    marks: frozenset[str]  # columns or keys of the first line that only this kind has
    absolute: bool = False  # times count from the run's start, not from the first row


FORMATS = (
    Format("azure", azure.rows, frozenset(azure.COLUMNS)),
    Format("burstgpt", burstgpt.rows, frozenset(burstgpt.REQUIRED)),
    Format("mooncake", mooncake.rows, frozenset({"timestamp", "input_length", "output_length"})),
    Format("jsonl", jsonl.rows, frozenset({"arrival_s"}), absolute=True),
)


class Trace:
    """The workload of one trace; `offers()` reads it from the start each time.

    `skipped` counts the rows left out in the latest reading so far (of its first lap).
    """

    def __init__(
        self,
        read: Callable[[], Iterator[Row]],
        name: str,
        *,
        absolute: bool = False,
        requests: int | None = None,
        rate_scale: float = 1.0,
        loop: bool = False,
        loop_reuse: bool = False,
        slo: Slo = NO_SLO,
        slo_by_class: Mapping[str, Slo] | None = None,
        max_tokens: int = DEFAULT_MAX_TOKENS,
    ) -> None:
        if not 0 < rate_scale < float("inf"):
            raise OptionError(
                f"rate_scale is {rate_scale}, it must be above 0: 2 means twice the trace's rate"
            )
        if requests is not None and requests < 0:
            raise OptionError(
                f"requests is {requests}, the least is 0: leave it out for the whole trace"
            )
        check_cap(max_tokens)
        self.name = name
        self.skipped = 0
        self._read = read
        self._absolute = absolute
        self._requests = float("inf") if requests is None else requests
        self._rate_scale = rate_scale
        self._loop = loop or loop_reuse
        self._reuse = loop_reuse
        self._max_tokens = max_tokens
        self._slo = slo
        self._slo_by_class = dict(slo_by_class or {})
        self._slos: dict[tuple[str, Targets], Slo] = {}

    def offers(self) -> Iterator[Offered]:
        """Offer rows in order; endless when looping without a limit.

        Raises:
            WorkloadError: a bad or unsorted line (when it is reached), or no usable row at all.
        """
        self.skipped = 0
        offered = lap = begin_ns = 0
        while offered < self._requests:
            first_ns = last_ns = count = 0
            salt = 0 if self._reuse else salt_of(lap)
            for row in self._checked(lap):
                if count == 0:
                    first_ns = 0 if self._absolute and lap == 0 else row.time_ns
                since_ns = row.time_ns - first_ns
                if self._rate_scale != 1.0:
                    since_ns = round(since_ns / self._rate_scale)
                last_ns = begin_ns + since_ns
                yield self._offered(row, offered, last_ns, salt)
                count += 1
                offered += 1
                if offered >= self._requests:
                    return
            if count == 0:
                raise WorkloadError(
                    f"{self.name} has no usable request ({self.skipped} skipped): give another trace"
                )
            if not self._loop:
                return
            lap += 1
            gap_ns = (last_ns - begin_ns) // (count - 1) if count > 1 else NS_PER_S
            begin_ns = last_ns + gap_ns

    def on_end(self, request: Request, outcome: str, now_ns: int) -> Sequence[Offered]:
        """Nothing: a trace is open loop."""
        return ()

    def _checked(self, lap: int) -> Iterator[Row]:
        last_ns = None
        for row in self._read():
            if last_ns is not None and row.time_ns < last_ns:
                raise WorkloadError(
                    f"{self.name}:{row.line}: the time is {(last_ns - row.time_ns) / NS_PER_S:.9g} s before "
                    "that of the row before, expected order of arrival: sort the file by its time column"
                )
            last_ns = row.time_ns
            if row.prompt_tokens and row.output_tokens:
                yield row
            elif lap == 0:
                self.skipped += 1

    def _offered(self, row: Row, request_id: int, arrival_ns: int, salt: int) -> Offered:
        output_tokens = row.output_tokens
        max_tokens = row.max_tokens or self._max_tokens
        if output_tokens > max_tokens:
            max_tokens = cap_for(output_tokens, max_tokens)
        slo = self._slo
        if row.slo_class or row.targets:
            slo = self._slo_of(row.slo_class, row.targets)
        prefix, session, next_extent = row.prefix, row.session, row.next_extent
        if salt:
            prefix = salted(prefix, salt)
            session = None if session is None else session ^ salt
            next_extent = None if next_extent is None else next_extent ^ salt
        request = Request(
            request_id,
            arrival_ns,
            row.prompt_tokens,
            max_tokens,
            slo,
            row.tenant,
            session,
            row.workflow,
            row.quality_floor,
            row.stages,
            prefix,
            next_extent,
        )
        return Offered(request, output_tokens)

    def _slo_of(self, slo_class: str, targets: Targets) -> Slo:
        """The class's SLO, else the default under the class's name; then the row's own targets."""
        key = (slo_class, targets)
        slo = self._slos.get(key)
        if slo is None:
            slo = self._slo_by_class.get(slo_class)
            if slo is None:
                slo = replace(self._slo, name=slo_class) if slo_class else self._slo
            slo = replace(slo, **dict(targets))  # type: ignore[arg-type]
            if len(self._slos) >= 4096:
                self._slos.clear()
            self._slos[key] = slo
        return slo


def open_trace(
    path: str | Path,
    *,
    requests: int | None = None,
    rate_scale: float = 1.0,
    loop: bool = False,
    loop_reuse: bool = False,
    slo: Slo = NO_SLO,
    slo_by_class: Mapping[str, Slo] | None = None,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> Trace:
    """Open a trace of any known format, told apart by its first line.

    `requests` limits how many are offered. `rate_scale=2` offers them twice as fast. `loop` starts again
    at the end, one mean gap later, with new prefix and session ids each lap; `loop_reuse` keeps them, so
    later laps find their prefixes. `slo` is for rows whose class is not in `slo_by_class`. `max_tokens` is
    the cap of every request, doubled for outputs that exceed it.

    Raises:
        WorkloadError: unreadable, or of no known format.
        OptionError: an impossible option.
    """
    where = Path(path)
    kind = sniff(where)
    return Trace(
        lambda: kind.rows(open_lines(where), str(where)),
        str(where),
        absolute=kind.absolute,
        requests=requests,
        rate_scale=rate_scale,
        loop=loop,
        loop_reuse=loop_reuse,
        slo=slo,
        slo_by_class=slo_by_class,
        max_tokens=max_tokens,
    )


def sniff(path: Path) -> Format:
    """Tell the format of a trace from its first line.

    Raises:
        WorkloadError: unreadable, empty, or of no known format.
    """
    first = next(open_lines(path), b"").strip()
    if first.startswith(b"{"):
        # The line may be bad and still tell what it wants to be: its reader says what is wrong with it.
        for kind in FORMATS:
            if all(f'"{mark}"'.encode() in first for mark in kind.marks):
                return kind
    elif first:
        header = set(columns_of(first))
        for kind in FORMATS:
            if kind.marks <= header:
                return kind
    known = "; ".join(f"{kind.name} ({', '.join(sorted(kind.marks))})" for kind in FORMATS)
    shown = first[:80].decode("utf-8", "replace")
    raise WorkloadError(
        f"{path}:1: the first line is {shown!r}, expected one of these formats: {known}"
    )
