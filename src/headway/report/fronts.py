"""Scatters of two metrics at one offered rate, with what nothing else beats ringed, named and joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence as Seq
from html import escape
from math import log10
from typing import Any, NamedTuple

from headway.report.combinations import rates
from headway.report.page import chart, figure
from headway.report.pareto import front

Labelled = Seq[tuple[str, Mapping[str, Any]]]
"""(name of the combination, row)"""


class Look(NamedTuple):
    """How a combination is drawn, everywhere on the page."""

    colour: str
    symbol: str
    dash: str


class Axis(NamedTuple):
    """A metric of a front."""

    key: str  # of the summary
    title: str
    more_is_better: bool = False
    share: bool = False  # at most 1; else a time, on a log scale unless more is better


TTFT = Axis("p99_ttft_ms", "TTFT p99, ms (lower is better)")
ITL = Axis("p99_itl_ms", "ITL p99, ms (lower is better)")
GOODPUT = Axis("request_goodput", "Goodput, requests/s (higher is better)", more_is_better=True)
JAIN = Axis(
    "jain_tokens", "Jain's index of tokens (higher is better)", more_is_better=True, share=True
)

WORST_TENANT = Axis(
    "worst_tenant_attainment",
    "Worst tenant's attainment (higher is better)",
    more_is_better=True,
    share=True,
)
_NEAR = 0.35  # of the axis: labels are long, and those of points nearer than that would touch
_EVEN = 0.995  # Jain's index from which everybody got nearly what was due

_Point = tuple[str, float, float]


def fairness_axis(labelled: Labelled) -> Axis:
    """Jain's index, or what the worst tenant attained where that index tells no combination from another."""
    indices = [row["summary"][JAIN.key] for _, row in labelled]
    known = [index for index in indices if index is not None]
    return WORST_TENANT if known and min(known) >= _EVEN else JAIN


def front_chart(
    labelled: Labelled, looks: Mapping[str, Look], chosen: float, title: str, x: Axis, y: Axis
) -> str:
    """Return a card whose traces carry their rate as `meta.rate`; only those at `chosen` are shown."""
    plot = figure(title, x.title, y.title, height=440)
    for rate in rates([row for _, row in labelled]):
        points = _points(labelled, rate, x, y)
        shown = {"visible": rate == chosen, "meta": {"rate": rate}, "showlegend": False}
        _add_front(plot, points, x, y, shown)
        for label, at_x, at_y in points:
            look = looks[label]
            plot.add_scatter(
                x=[at_x],
                y=[at_y],
                mode="markers",
                marker={"size": 11, "color": look.colour, "symbol": look.symbol},
                name=escape(label),
                cliponaxis=False,
                hovertemplate=f"<b>{escape(label)}</b><br>%{{x:.4g}}, %{{y:.4g}}<extra></extra>",
                **shown,
            )
    for axis, update in ((x, plot.update_xaxes), (y, plot.update_yaxes)):
        if axis.share:
            lowest = min((row["summary"][axis.key] or 1.0 for _, row in labelled), default=1.0)
            room = max(1 - lowest, 0.1)
            update(range=[1 - 1.1 * room, 1 + 0.1 * room])
        elif not axis.more_is_better:
            update(type="log", tickformat="~r", dtick="D2")
    return chart(plot, f"front-{x.key}-{y.key}")


def _points(labelled: Labelled, rate: float, x: Axis, y: Axis) -> list[_Point]:
    """Rows at one rate in which both metrics are known."""
    all_points = (
        (label, row["summary"][x.key], row["summary"][y.key])
        for label, row in labelled
        if row["rate_rps"] == rate
    )
    return [point for point in all_points if point[1] is not None and point[2] is not None]


def _add_front(plot: Any, points: Seq[_Point], x: Axis, y: Axis, shown: Mapping[str, Any]) -> None:
    """Rings and names around the Pareto-optimal points, and a line through them."""
    sign_x, sign_y = (-1 if axis.more_is_better else 1 for axis in (x, y))
    best = [points[i] for i in front([(sign_x * px, sign_y * py) for _, px, py in points])]
    plot.add_scatter(
        x=[px for _, px, _ in best],
        y=[py for _, _, py in best],
        mode="lines+markers+text",
        text=[escape(label) for label, _, _ in best],
        textposition=_beside(
            [px for _, px, _ in best], [px for _, px, _ in points], log=not x.more_is_better
        ),
        textfont={"size": 12},
        cliponaxis=False,
        line={"color": "#8a949e", "width": 1.5, "dash": "dot"},
        marker={
            "size": 21,
            "color": "rgba(0,0,0,0)",
            "line": {"color": "#1b1f24", "width": 1.5},
        },
        hoverinfo="skip",
        **shown,
    )


def _beside(xs: Seq[float], everything: Seq[float], *, log: bool) -> list[str]:
    """Place labels above their points, below when the one before is near, and away from the edges."""
    place = log10 if log else float
    low, high = (
        (place(edge) for edge in (min(everything), max(everything))) if everything else (0, 0)
    )
    span = (high - low) or 1.0
    sides, spots, before = ("right", "center", "left"), [], -1.0
    for x in xs:
        at = (place(x) - low) / span
        above = at - before > _NEAR
        spots.append(f"{'top' if above else 'bottom'} {sides[min(2, int(3 * at))]}")
        before = at
    return spots
