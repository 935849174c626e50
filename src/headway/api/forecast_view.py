"""Calibrations and what-ifs as tables for a terminal. Needs rich, which takes time: loaded when first asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence as Seq
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headway.api.change import ASKED
from headway.api.judgement import METRICS
from headway.api.resampling import INTERVAL, Forecast
from headway.report.numbers import ABSENT, number
from headway.timing import Pieces, Profile

if TYPE_CHECKING:
    from headway.api.what_if import WhatIf


def calibration_view(profile: Profile, notes: Seq[str], width: int) -> RenderableType:
    """Errors by kind of step, then what a step costs."""
    del width
    counted = "tokens of requests" if profile.coarse else "steps"
    title = f"{profile.model or 'unknown model'} on {profile.device or 'unknown device'}"
    errors = Table(box=None, pad_edge=False)
    errors.add_column("kind of step")
    for name in ("held out", "MAPE", "p90 error", "bias"):
        errors.add_column(name, justify="right")
    for kind, fit in profile.fit.items():
        errors.add_row(
            kind, number(fit.steps), _percent(fit.mape), _percent(fit.p90), _signed(fit.bias)
        )
    costs = Table(box=None, pad_edge=False)
    costs.add_column("cost of a step")
    costs.add_column("µs", justify="right")
    costs.add_column("for each")
    for row in _costs(profile):
        costs.add_row(*row)
    head = Text(f"{title}: fitted to {number(profile.steps)} {counted} of {profile.source}", "bold")
    return Group(head, errors, Text(), costs, *_notes(notes))


def whatif_view(told: WhatIf, width: int) -> RenderableType:
    """Measured, replayed and changed, side by side."""
    del width
    table = Table(box=None, pad_edge=False)
    table.add_column("metric")
    table.add_column("unit", style="dim")
    for name in ("measured", "replayed", "error"):
        table.add_column(name, justify="right")
    if told.changed:
        share = round(100 * (INTERVAL[1] - INTERVAL[0]))
        for name in ("changed", f"{share} % interval", "difference", f"{share} % interval"):
            table.add_column(name, justify="right")
    for row in rows_of(told):
        table.add_row(*row)
    asked = f"changed: {', '.join(told.change)}" if told.change else "nothing was changed"
    head = [Text(told.title, "bold"), Text(f"{told.requests} requests; {asked}")]
    notes = list(told.notes) if told.change else [*told.notes, f"to change something: {ASKED}"]
    return Group(*head, table, *_notes(notes))


def rows_of(told: WhatIf) -> Iterator[tuple[str, ...]]:
    """The cells of the table as text."""
    error = told.error
    for name, (label, unit) in METRICS.items():
        row = [label, unit, _plain(told.measured[name])]
        row += [_plain(told.replayed[name].value), _signed(error[name])]
        if told.changed:
            new, difference = told.changed[name], told.difference[name]
            row += [_plain(new.value), _between(new)]
            row += [_signed(difference.value), _between(difference, signed=True)]
        yield tuple(row)


def _costs(profile: Profile) -> Iterator[tuple[str, str, str]]:
    yield "base", _us(profile.base_ns), "step"
    yield "gap", _us(profile.gap_ns), "step: until the next can begin"
    yield from _pieces("decode", profile.decodes, "decode")
    yield from _pieces("prefill", profile.tokens, "prefill token")
    yield "chunk", _us(profile.chunk_ns), "prefill chunk"
    yield "context", _us(profile.context_ns), "token that a decode attends to"
    yield "attention", _us(profile.pair_ns), "pair of a prefill token and one it attends to"
    yield "head", _us(profile.row_ns), "row of the output head"


def _pieces(name: str, pieces: Pieces, what: str) -> Iterator[tuple[str, str, str]]:
    edges: list[int | None] = [0, *pieces.knees, None]
    for low, high, slope in zip(edges[:-1], edges[1:], pieces.slopes_ns, strict=True):
        span = "" if len(pieces.slopes_ns) == 1 else f" from {low}"
        span += f" to {high}" if high is not None else ""
        yield name, _us(slope), what + span


def _notes(notes: Iterable[str]) -> list[RenderableType]:
    return [Text(f"! {note}", "yellow") for note in notes]


def _us(time_ns: float) -> str:
    return number(time_ns / 1000, 3)


def _plain(value: float) -> str:
    return ABSENT if math.isnan(value) else number(value, 3)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _signed(share: float) -> str:
    return ABSENT if math.isnan(share) else f"{100 * share:+.1f} %"


def _between(one: Forecast, *, signed: bool = False) -> str:
    show = _signed if signed else _plain
    return ABSENT if math.isnan(one.low) else f"{show(one.low)} … {show(one.high)}"
