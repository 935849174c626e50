"""A what-if as one self-contained page. Needs plotly, an extra: loaded when first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Sequence as Seq
from typing import TYPE_CHECKING, Any

from headway.api.forecast_view import rows_of
from headway.api.judgement import METRICS
from headway.api.resampling import INTERVAL, Forecast

if TYPE_CHECKING:
    from headway.api.what_if import WhatIf


def whatif_page(told: WhatIf) -> str:
    """Differences with their intervals, and the table.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    page = importlib.import_module("headway.report.page")
    share = round(100 * (INTERVAL[1] - INTERVAL[0]))
    head = [
        ("Metric", ""),
        ("Unit", ""),
        ("Measured", ""),
        ("Replayed", ""),
        ("Error", "of measured"),
    ]
    if told.changed:
        interval = (f"{share} % interval", "")
        head += [("Changed", ""), interval, ("Difference", "to replayed"), interval]
    body = "".join(
        (
            '<div class="charts">',
            page.chart(_figure(page, told), "difference", wide=True),
            "</div><h2>All numbers</h2>",
            page.table(head, rows_of(told)),
        )
    )
    notes = [("Note", "")], [(note,) for note in told.notes]
    if told.notes:
        body += "<h2>To know</h2>" + page.table(*notes)
    asked = f"changed: {', '.join(told.change)}" if told.change else "replayed as it was"
    lead = f"{told.requests} requests; {asked}; intervals from {told.draws} draws"
    html: str = page.page(f"What if: {told.title}", lead, body, defined=("ttft", "tpot", "e2el"))
    return html


def _figure(page: Any, told: WhatIf) -> Any:
    plot = page.figure("Relative to", "%", "", height=460)
    labels = [label for label, _ in METRICS.values()]
    error = told.error
    plot.add_scatter(
        x=[100 * error[name] for name in METRICS],
        y=labels,
        name="replayed, against measured",
        mode="markers",
        marker={"color": page.COLOURS[0], "symbol": page.SYMBOLS[0], "size": 9},
    )
    if told.changed:
        spans = [told.difference[name] for name in METRICS]
        plot.add_scatter(
            x=[100 * one.value for one in spans],
            y=labels,
            name="changed, against replayed",
            mode="markers",
            marker={"color": page.COLOURS[1], "symbol": page.SYMBOLS[1], "size": 10},
            error_x=_bars(spans),
        )
    plot.update_yaxes(autorange="reversed")
    return plot


def _bars(spans: Seq[Forecast]) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [100 * (one.high - one.value) for one in spans],
        "arrayminus": [100 * (one.value - one.low) for one in spans],
    }
