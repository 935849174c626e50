"""Forecast beside measurement: the demo's one table, and its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from headway.api import Result
from headway.api.step_samples import samples_of
from headway.demo.ways import Way
from headway.loadgen import Measured
from headway.records import read_run_log
from headway.report.page import COLOURS, chart, facts, figure, page as framed, table as html_table
from headway.timing import Profile

PACE = "pace"
ROWS = (
    ("SLO attainment", "slo_attainment", None, "%"),
    ("of chat", "slo_attainment", "chat", "%"),
    ("of reports", "slo_attainment", "report", "%"),
    ("goodput", "request_goodput", None, "requests/s"),
    ("p50 TTFT of chat", "median_ttft_ms", "chat", "ms"),
    ("p99 TTFT of chat", "p99_ttft_ms", "chat", "ms"),
    ("mean TPOT", "mean_tpot_ms", None, "ms"),
    ("throughput", "output_throughput", None, "tokens/s"),
    ("time of a step", PACE, None, "x"),
)
LEAST = {"%": 0.02, "requests/s": 0.05, "ms": 1.0, "tokens/s": 1.0, "x": 0.01}
"""Below this a relative error says nothing."""
WHEN = ("before", "after")
BADLY_OFF = 0.15  # of an attainment
OTHER_PACE = 0.1
LITTLE_GAIN = 0.05
UNFAIR = 1.25  # slower pace by faster


@dataclass(frozen=True)
class Outcome:
    """One way to serve: what was forecast and what came.

    `pace`: time of the run's steps over what the calibration says of steps of these shapes: the part of the forecast's
    error that is the machine's, or the calibration's, and no policy's. None: no whole step.
    """

    way: Way
    forecast: Mapping[str, Any]  # summary and curves of the simulation
    measured: Measured
    pace: float | None

    @classmethod
    def of(
        cls,
        way: Way,
        forecast: Result,
        measured: Measured,
        profile: Profile,
        log: Path,
        warmup: int,
    ) -> Outcome:
        """Read the pace off the run's log, of which the first `warmup` requests do not count."""
        steps = samples_of(read_run_log(log), warmup).steps
        took_ns = sum(step.duration_ns for step in steps)
        said_ns = sum(profile.shape_ns(step.shape) - profile.gap_ns for step in steps)
        sides = {"summary": forecast.summary, "curves": forecast.curves}
        return cls(way, sides, measured, took_ns / said_ns if said_ns else None)

    def pair(self, key: str, slo_class: str | None) -> tuple[float | None, float | None]:
        """Forecast and measured value of a metric, of all requests or of one class."""
        if key == PACE:
            return 1.0, self.pace
        expected, came = self.forecast["summary"], self.measured.summary
        if slo_class is not None:
            expected, came = (side["by_class"].get(slo_class, {}) for side in (expected, came))
        return expected.get(key), came.get(key)

    @property
    def attained(self) -> tuple[float, float]:
        """SLO attainment, forecast and measured."""
        expected, came = self.pair("slo_attainment", None)
        return expected or 0.0, came or 0.0


def verdict(outcomes: Seq[Outcome]) -> list[str]:
    """What came of it, said plainly, also when it is little."""
    (_, was), (_, now) = (outcome.attained for outcome in outcomes)
    said = [f"SLO attainment, measured: {was:.0%} before, {now:.0%} after."]
    if now < was + 0.02:
        said.append("On this machine, at this load, the SLO policy gained nothing worth having.")
    elif now < was + LITTLE_GAIN:
        said.append("The gain is small: the load was lighter for this machine than was forecast.")
    said += _unfair(outcomes)
    said += [_of_forecast(when, one) for when, one in zip(WHEN, outcomes, strict=True)]
    said += [f"Note: {warning}" for outcome in outcomes for warning in outcome.measured.warnings]
    return said


def _unfair(outcomes: Seq[Outcome]) -> list[str]:
    """Were both served by the same machine?"""
    before, after = (outcome.pace or 1.0 for outcome in outcomes)
    if max(before, after) < UNFAIR * min(before, after):
        return []
    said = f"NOT A FAIR COMPARISON: steps of the same shape took {before / after:.2f} times as long before as after: "
    return [said + "something else used this machine. Run it again when it is quiet."]


def _of_forecast(when: str, outcome: Outcome) -> str:
    """How far off it was, and whether the machine is why."""
    expected, came = outcome.attained
    off = abs(expected - came) > BADLY_OFF
    word = "BADLY OFF" if off else "near"
    said = f"{when.capitalize()}, the forecast was {word}: {expected:.0%}, and {came:.0%} came."
    if outcome.pace is not None and abs(outcome.pace - 1) > OTHER_PACE:
        said += (
            f" Steps took {outcome.pace:.2f} times as long as steps of their shapes when calibrating:"
            " the machine's pace has changed."
        )
    return said


def table(outcomes: Seq[Outcome], title: str) -> Table:
    """One line a metric; for each way forecast, measured and the forecast's error."""
    ways = [f"{when}: {one.way.text}" for when, one in zip(WHEN, outcomes, strict=True)]
    shown = Table(title="\n".join([title, *ways]), title_justify="left", box=box.SIMPLE_HEAD)
    shown.add_column("")
    for when, _ in zip(WHEN, outcomes, strict=True):
        for heading in (f"{when}:\nforecast", "\nmeasured", "\nerror"):
            shown.add_column(heading, justify="right", no_wrap=True)
    for cells in _cells(outcomes):
        shown.add_row(*cells)
    return shown


def page(outcomes: Seq[Outcome], title: str) -> str:
    """The same on a page, with the distributions that the table sums up."""
    head = [("", "")]
    for outcome in outcomes:
        head += [(outcome.way.name, "forecast"), ("", "measured"), ("", "error")]
    numbers = [
        (f"{outcome.attained[1]:.0%}", f"attained, {outcome.way.name}") for outcome in outcomes
    ]
    charts = [
        _distribution(outcomes, key, title) for key, title in (("ttft", "TTFT"), ("tpot", "TPOT"))
    ]
    body = [facts(numbers), "<h2>Forecast and measurement</h2>", html_table(head, _cells(outcomes))]
    body += [f"<p>{escape(sentence)}</p>" for sentence in verdict(outcomes)]
    body.append(f'<div class="charts">{"".join(charts)}</div>')
    ways = "; ".join(f"{when}: {one.way.text}" for when, one in zip(WHEN, outcomes, strict=True))
    lead = f"Chat and reports on this machine, {title}; {ways}."
    return framed("Forecast, then for real", lead, "\n".join(body))


def _cells(outcomes: Seq[Outcome]) -> list[list[str]]:
    rows = []
    for label, key, slo_class, unit in ROWS:
        cells = [f"{label}, {unit}" if unit not in "%x" else label]
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
            name, percent = f"{outcome.way.name}, {what}", [100 * share for share in shares]
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
    if unit == "x":
        return f"{value:.2f}x"
    return f"{value:.0%}" if unit == "%" else f"{value:,.2f}" if value < 10 else f"{value:,.0f}"
