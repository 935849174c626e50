"""Forecast beside measurement: the demo's one table, and its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from headway.demo.mixed_load import Promises
from headway.loadgen import Measured
from headway.report.page import COLOURS, chart, facts, figure, page as framed, table as html_table

ROWS = (
    ("SLO attainment", "slo_attainment", None, "%"),
    ("of chat", "slo_attainment", "chat", "%"),
    ("of reports", "slo_attainment", "report", "%"),
    ("goodput", "request_goodput", None, "requests/s"),
    ("p50 TTFT of chat", "median_ttft_ms", "chat", "ms"),
    ("p99 TTFT of chat", "p99_ttft_ms", "chat", "ms"),
    ("mean TPOT", "mean_tpot_ms", None, "ms"),
    ("output throughput", "output_throughput", None, "tokens/s"),
)
LEAST = {"%": 0.02, "requests/s": 0.05, "ms": 1.0, "tokens/s": 1.0}
"""Below this a relative error says nothing."""


@dataclass(frozen=True)
class Outcome:
    """One policy: what was forecast and what came."""

    policy: str
    forecast: Mapping[str, Any]  # summary and curves of the simulation
    measured: Measured

    def pair(self, key: str, slo_class: str | None) -> tuple[float | None, float | None]:
        """Forecast and measured value of a metric, of all requests or of one class."""
        expected, came = self.forecast["summary"], self.measured.summary
        if slo_class is not None:
            expected, came = (side["by_class"].get(slo_class, {}) for side in (expected, came))
        return expected.get(key), came.get(key)

    def worst_error(self) -> float:
        """The largest relative error of the table."""
        errors = [_error(*self.pair(key, part), unit) for _, key, part, unit in ROWS]
        return max((abs(error) for error in errors if error is not None), default=0.0)


def table(outcomes: Seq[Outcome], promises: Promises, rate_rps: float) -> Table:
    """One line a metric; for each policy forecast, measured and the forecast's error."""
    shown = Table(title=f"{rate_rps:.1f} requests/s. {promises.text()}", title_justify="left")
    shown.add_column("")
    for outcome in outcomes:
        for heading in (f"{outcome.policy}\nforecast", "\nmeasured", "\nerror"):
            shown.add_column(heading, justify="right")
    for cells in _cells(outcomes):
        shown.add_row(*cells)
    return shown


def page(outcomes: Seq[Outcome], promises: Promises, rate_rps: float) -> str:
    """The same on a page, with the distributions that the table sums up."""
    head = [("", "")]
    for outcome in outcomes:
        head += [(outcome.policy, "forecast"), ("", "measured"), ("", "error")]
    numbers = [
        (f"{(outcome.pair('slo_attainment', None)[1] or 0):.0%}", f"attained, {outcome.policy}")
        for outcome in outcomes
    ]
    charts = [
        _distribution(outcomes, key, title) for key, title in (("ttft", "TTFT"), ("tpot", "TPOT"))
    ]
    body = [facts(numbers), "<h2>Forecast and measurement</h2>", html_table(head, _cells(outcomes))]
    body.append(f'<div class="charts">{"".join(charts)}</div>')
    lead = f"{rate_rps:.1f} requests/s of chat and reports on this machine. {promises.text()}."
    return framed("Forecast, then for real", lead, "\n".join(body))


def _cells(outcomes: Seq[Outcome]) -> list[list[str]]:
    rows = []
    for label, key, slo_class, unit in ROWS:
        cells = [f"{label}, {unit}" if unit != "%" else label]
        for outcome in outcomes:
            expected, came = outcome.pair(key, slo_class)
            error = _error(expected, came, unit)
            cells += [_shown(expected, unit), _shown(came, unit)]
            cells.append("–" if error is None else f"{error:+.0%}")
        rows.append(cells)
    return rows


def _distribution(outcomes: Seq[Outcome], key: str, title: str) -> str:
    plot = figure(f"{title} of chat: share of requests within", "ms", "%")
    for colour, outcome in zip(COLOURS, outcomes, strict=False):
        sides = ((outcome.forecast["curves"], "dash"), (outcome.measured.curves, "solid"))
        for (curves, dash), what in zip(sides, ("forecast", "measured"), strict=True):
            times_ms, shares = curves["cdf"][key].get("chat", ([], []))
            line = {"color": colour, "dash": dash}
            name, percent = f"{outcome.policy}, {what}", [100 * share for share in shares]
            plot.add_scatter(x=times_ms, y=percent, name=name, mode="lines", line=line)
    plot.update_layout(showlegend=True)
    return chart(plot, key)


def _error(expected: float | None, came: float | None, unit: str) -> float | None:
    if expected is None or came is None or max(expected, came) < LEAST[unit]:
        return None
    return (expected - came) if unit == "%" else (expected / came - 1 if came else None)


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    return f"{value:.0%}" if unit == "%" else f"{value:,.2f}" if value < 10 else f"{value:,.0f}"
