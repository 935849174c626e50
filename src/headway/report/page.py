"""The frame of a page: one file that fetches nothing, readable without colour vision and on paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence as Seq
from html import escape
from string import Template

from headway.errors import MissingExtraError
from headway.metrics import base_definitions

try:
    from plotly import graph_objects as go
    from plotly.io import to_html
    from plotly.offline import get_plotlyjs
except ImportError as error:  # pragma: no cover - the extra is installed where this is tested
    raise MissingExtraError.of("an HTML page", "plotly", "report") from error

# Okabe and Ito's palette: told apart with every kind of colour vision. Yellow is too pale for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "star", "triangle-down", "hexagon")
DASHES = ("solid", "dash", "dot", "dashdot")

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

_STYLE = Template("""
:root { --ink: #1b1f24; --soft: #5b6470; --line: #dfe3e8; --paper: #ffffff; --wash: #f5f7f9; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--wash); color: var(--ink); font: 15px/1.5 $font; }
main { max-width: 1280px; margin: 0 auto; padding: 28px 24px 48px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 17px; margin: 32px 0 10px; }
p.lead { color: var(--soft); margin: 0 0 20px; }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(136px, 1fr)); gap: 12px; }
.fact { padding: 12px 14px; }
.fact b { display: block; font-size: 22px; line-height: 1.25; font-variant-numeric: tabular-nums; }
.fact span { color: var(--soft); font-size: 13px; }
.charts { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 16px; }
.charts .card { padding: 6px; min-width: 0; }
.charts .wide { grid-column: 1 / -1; }
.warning { border-left: 5px solid #D55E00; padding: 10px 16px; margin: 0 0 16px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th, td { padding: 7px 8px; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
tr:last-child td { border-bottom: 0; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
thead small { font-weight: 400; display: block; }
.definitions td { white-space: normal; vertical-align: top; }
.definitions code { font-size: 13px; }
details summary { cursor: pointer; font-weight: 600; font-size: 17px; margin: 32px 0 10px; }
th[data-sort] { cursor: pointer; user-select: none; }
th[data-sort]:hover, th[data-sort]:focus-visible { color: var(--ink); }
th[aria-sort=ascending] small::before { content: "\\25B2\\A0"; }
th[aria-sort=descending] small::before { content: "\\25BC\\A0"; }
.choice { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; margin: 0 0 16px; }
.choice button { font: inherit; border: 1px solid var(--line); background: var(--paper); color: var(--ink);
  border-radius: 999px; padding: 3px 13px; cursor: pointer; }
.choice button[aria-pressed=true] { background: #0072B2; border-color: #0072B2; color: #fff; }
.best { font-weight: 600; }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 8px; }
footer { color: var(--soft); font-size: 13px; margin-top: 28px; }
@media (max-width: 900px) { .charts { grid-template-columns: minmax(0, 1fr); } main { padding: 16px 12px; } }
@media print { body { background: #fff; } .card { break-inside: avoid; } }
""").substitute(font=_FONT)

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<link rel="icon" href="data:,">
<style>$style</style>
<script>$plotly</script>
</head>
<body>
<main>
<h1>$title</h1>
<p class="lead">$lead</p>
$body
<details open><summary>What the numbers mean</summary>$definitions</details>
<footer>$footer</footer>
</main>
$script
</body>
</html>
""")

_FOOTER = (
    "Server-side times: they start when a request arrives and end when a token is computed. "
    "Holding tokens back smooths ITL tails, and dropping a request that has already missed can "
    "raise goodput: read both beside SLO attainment, which counts every request offered."
)


def page(
    title: str,
    lead: str,
    body: str,
    script: str = "",
    *,
    defined: Iterable[str] | None = None,
    definitions: Mapping[str, tuple[str, str]] | None = None,
    footer: str = _FOOTER,
) -> str:
    """Put a body (HTML) into the frame; `title`, `lead` and `footer` are text.

    `defined` picks the definitions to print among `definitions`: those of a simulated run unless given.
    """
    return _PAGE.substitute(
        title=escape(title),
        lead=escape(lead),
        style=_STYLE,
        plotly=get_plotlyjs(),
        body=body,
        script=f"<script>{script}</script>" if script else "",
        definitions=_definitions(
            base_definitions() if definitions is None else definitions, defined
        ),
        footer=escape(footer),
    )


def chart(figure: go.Figure, name: str, *, wide: bool = False) -> str:
    """Return a figure as a card; `name` is its id on the page."""
    html = to_html(
        figure,
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        config={
            "displaylogo": False,
            "responsive": True,
            "modeBarButtonsToRemove": ["select2d", "lasso2d"],
        },
    )
    return f'<div class="card{" wide" if wide else ""}">{html}</div>'


def figure(title: str, x: str, y: str, *, height: int = 380) -> go.Figure:
    """Return an empty figure in the house's look; titles are text, units included."""
    axis = {
        "gridcolor": "#e6e9ed",
        "linecolor": "#9aa3ad",
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": "#9aa3ad",
        "automargin": True,
        "title_standoff": 10,
    }
    return go.Figure(
        layout={
            "title": {
                "text": escape(title),
                "font": {"size": 16},
                "x": 0.015,
                "xanchor": "left",
                "y": 0.965,
                "yanchor": "top",
            },
            "font": {"family": _FONT, "size": 13, "color": "#1b1f24"},
            "height": height,
            "margin": {"l": 64, "r": 24, "t": 52, "b": 56},
            "paper_bgcolor": "#ffffff",
            "plot_bgcolor": "#ffffff",
            "hoverlabel": {
                "bgcolor": "#ffffff",
                "bordercolor": "#9aa3ad",
                "font": {"family": _FONT},
            },
            "legend": {
                "orientation": "h",
                "x": 0.5,
                "xanchor": "center",
                "y": 0,
                "yref": "container",
                "yanchor": "bottom",
                "font": {"size": 12},
            },
            "xaxis": axis | {"title": escape(x)},
            "yaxis": axis | {"title": escape(y)},
        }
    )


def facts(entries: Iterable[tuple[str, str]]) -> str:
    """Return a row of large numbers: (value, what it is)."""
    cells = "".join(
        f'<div class="card fact"><b>{escape(value)}</b><span>{escape(what)}</span></div>'
        for value, what in entries
    )
    return f'<div class="facts">{cells}</div>'


def table(head: Seq[tuple[str, str]], rows: Iterable[Seq[str]]) -> str:
    """Return a table of text; head cells are (name, unit), the first column names the row."""
    cells = "".join(
        f"<th{' class=n' if index else ''}>{escape(name)}<small>{escape(unit)}</small></th>"
        for index, (name, unit) in enumerate(head)
    )
    lines = "".join(
        "<tr>"
        + "".join(
            f"<td{' class=n' if index else ''}>{escape(cell)}</td>"
            for index, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f'<div class="card scroll"><table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table></div>'


def _definitions(known: Mapping[str, tuple[str, str]], defined: Iterable[str] | None) -> str:
    names = list(known) if defined is None else [name for name in known if name in set(defined)]
    rows = "".join(
        f"<tr><td><code>{name}</code></td><td>{escape(known[name][1])}</td><td>{escape(known[name][0])}</td></tr>"
        for name in names
    )
    head = "<thead><tr><th>Metric</th><th>Unit</th><th>Definition</th></tr></thead>"
    return f'<div class="card scroll"><table class="definitions">{head}<tbody>{rows}</tbody></table></div>'
