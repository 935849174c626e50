"""HTML pages and plots, loaded when first asked for: they need plotly, which is an extra, and time."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence as Seq
from typing import Any


def run_page(summary: Mapping[str, Any], curves: Mapping[str, Any], title: str) -> str:
    """One run as a self-contained page.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    page: str = importlib.import_module("headway.report.run_page").run_html(summary, curves, title)
    return page


def compare_page(rows: Seq[Mapping[str, Any]], title: str) -> str:
    """Many runs as a self-contained page with fronts.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    page: str = importlib.import_module("headway.report.compare_page").compare_html(rows, title)
    return page


def latency_figure(curves: Mapping[str, Any], title: str) -> Any:
    """The distributions of TTFT, ITL, TPOT and E2E latency by SLO class, as a plotly figure.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    page = importlib.import_module("headway.report.page")
    plot = page.figure(title, "ms, log scale", "Share up to it, %", height=480)
    for dash, (metric, by_class) in zip(page.DASHES, curves["cdf"].items(), strict=False):
        for colour, (name, (values, shares)) in zip(page.COLOURS, by_class.items(), strict=False):
            plot.add_scatter(
                x=[max(value, 1e-3) for value in values],  # a log axis has no place for 0 ms
                y=[100 * share for share in shares],
                name=f"{metric} {name}",
                mode="lines",
                line={"color": colour, "dash": dash, "shape": "hv"},
            )
    plot.update_xaxes(type="log")
    plot.update_yaxes(range=[0, 101])
    return plot


def run_view(*told: Any) -> Any:
    """One run as something that rich prints."""
    return importlib.import_module("headway.api.tables").run_view(*told)


def compare_view(*told: Any) -> Any:
    """Many runs as something that rich prints."""
    return importlib.import_module("headway.api.tables").compare_view(*told)


def as_text(view: Any, width: int) -> str:
    """What rich prints, as plain text."""
    text: str = importlib.import_module("headway.api.tables").as_text(view, width)
    return text
