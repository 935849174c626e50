"""Our own trace format: one JSON object a line, in order of arrival.

Required: `arrival_s` (since the run began), `prompt_tokens`, `output_tokens`. Optional:

- `tenant` (text), `session`, `workflow` (whole numbers), `max_tokens`, `quality_floor`
- `slo_class` (text), and targets of this request alone, which override those of its class: `ttft_s`,
  `tpot_s`, `itl_p99_s`, `e2e_s`, `deadline_s` (after arrival), `late_permille`
- `prefix`: `[[hash, tokens], ...]`, runs of leading prompt tokens, each hash naming its run and all before
- `next_extent`: the hash under which this prompt and its output continue
- `stages`: objects with the fields of `core.Stage` (times in ns), for periodic streams

A name that is not in this list is an error: a misspelt option must not pass as absent. Times keep their
nanosecond up to about 26 days. `supersedes` and prompt ids are not recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from headway.core import NS_PER_S, PrefixExtent, Stage
from headway.core.protocols import Offer
from headway.errors import WorkloadError
from headway.workload.trace_rows import Row, Targets, bad_json, bad_value

_Count = Annotated[int, msgspec.Meta(ge=0)]
_Seconds = Annotated[float, msgspec.Meta(ge=0)]
_TIMES = ("ttft", "tpot", "itl_p99", "e2e", "deadline")


class _Line(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    arrival_s: _Seconds
    prompt_tokens: _Count
    output_tokens: _Count
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    tenant: str = ""
    session: int | None = None
    workflow: int | None = None
    slo_class: str = ""
    ttft_s: _Seconds | None = None
    tpot_s: _Seconds | None = None
    itl_p99_s: _Seconds | None = None
    e2e_s: _Seconds | None = None
    deadline_s: _Seconds | None = None
    late_permille: _Count | None = None
    quality_floor: float | None = None
    prefix: tuple[tuple[int, _Count], ...] = ()
    next_extent: int | None = None
    stages: tuple[Stage, ...] = ()


def rows(lines: Iterable[bytes], name: str) -> Iterator[Row]:
    """Read rows; `name` is what errors call the file."""
    decode = msgspec.json.Decoder(_Line).decode
    for number, raw in enumerate(lines, 1):
        try:
            line = decode(raw)
        except msgspec.MsgspecError as error:
            if not raw.strip():
                continue
            raise bad_json(name, number, raw, error) from None
        if line.prefix:
            _check_prefix(name, number, line.prefix, line.prompt_tokens)
        if line.max_tokens is not None and line.max_tokens < line.output_tokens:
            limit = f"at least the output_tokens, {line.output_tokens}"
            raise bad_value(name, number, "max_tokens", line.max_tokens, limit)
        yield Row(
            number,
            round(line.arrival_s * NS_PER_S),
            line.prompt_tokens,
            line.output_tokens,
            line.tenant,
            line.session,
            line.slo_class,
            line.prefix,
            line.next_extent,
            line.max_tokens,
            _targets(line),
            line.workflow,
            line.quality_floor,
            line.stages,
        )


def write_trace(path: str | Path, offers: Iterable[Offer]) -> int:
    """Write offers to a file of this format as they come; return how many.

    Raises:
        WorkloadError: the offers are not in order of arrival, or the file cannot be written.
    """
    count, last_ns = 0, 0
    encode = msgspec.json.Encoder().encode
    try:
        with Path(path).open("wb") as file:
            for offer in offers:
                arrival_ns = offer.request.arrival_ns
                if arrival_ns < last_ns:
                    raise WorkloadError(
                        f"request {offer.request.id} arrives at {arrival_ns} ns, after one at {last_ns} ns: "
                        "write offers in order of arrival"
                    )
                last_ns = arrival_ns
                file.write(encode(_line_of(offer)) + b"\n")
                count += 1
    except OSError as error:
        raise WorkloadError(
            f"cannot write the trace {path}: {error}: give a path in a writable folder"
        ) from error
    return count


def _line_of(offer: Offer) -> _Line:
    request = offer.request
    slo = request.slo
    return _Line(
        request.arrival_ns / NS_PER_S,
        request.prompt_tokens,
        offer.output_tokens,
        request.max_tokens,
        request.tenant,
        request.session,
        request.workflow,
        "" if slo.name == "default" else slo.name,
        _seconds(slo.ttft_ns),
        _seconds(slo.tpot_ns),
        _seconds(slo.itl_p99_ns),
        _seconds(slo.e2e_ns),
        _seconds(slo.deadline_ns),
        slo.late_permille,
        request.quality_floor,
        request.prefix,
        request.next_extent,
        request.stages,
    )


def _seconds(time_ns: int | None) -> float | None:
    return None if time_ns is None else time_ns / NS_PER_S


def _targets(line: _Line) -> Targets:
    times = (line.ttft_s, line.tpot_s, line.itl_p99_s, line.e2e_s, line.deadline_s)
    if line.late_permille is None and times == (None, None, None, None, None):
        return ()
    found = [
        (f"{name}_ns", round(value * NS_PER_S))
        for name, value in zip(_TIMES, times, strict=True)
        if value is not None
    ]
    if line.late_permille is not None:
        found.append(("late_permille", line.late_permille))
    return tuple(found)


def _check_prefix(
    name: str, number: int, prefix: tuple[PrefixExtent, ...], prompt_tokens: int
) -> None:
    covered = sum(tokens for _, tokens in prefix)
    if covered > prompt_tokens:
        limit = f"at most the prompt_tokens, {prompt_tokens}"
        raise bad_value(name, number, "the prefix's sum of tokens", covered, limit)
    if not all(tokens for _, tokens in prefix):
        raise bad_value(name, number, "prefix", prefix, "extents of 1 token or more")
