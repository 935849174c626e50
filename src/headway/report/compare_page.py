"""Policies side by side on one page: fronts, curves over the rate, and a table that sorts.

A row is one run: `batching`, `ordering`, `memory`, `routing`, `admission` (names), `rate_rps`, and
the `summary` that `metrics.summarise` returned. The fronts show one rate at a time: across rates, a
lower rate would beat everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence as Seq
from html import escape
from typing import Any

from headway.report.combinations import combination, combinations, rates, telling_rate
from headway.report.fronts import (
    GOODPUT,
    ITL,
    TTFT,
    Labelled,
    Look,
    fairness_axis,
    front_chart,
)
from headway.report.numbers import milliseconds, number, percent
from headway.report.page import COLOURS, DASHES, SYMBOLS, chart, figure, page

Row = Mapping[str, Any]

_ATTAINMENT_GOAL = 0.9

_COLUMNS: tuple[tuple[str, str, str, Callable[[Any], str], bool], ...] = (
    # head, unit, key of the summary, how it is written, is more better?
    ("Attainment", "of offered", "slo_attainment", percent, True),
    ("Goodput", "requests/s", "request_goodput", number, True),
    ("Output", "tokens/s", "output_throughput", number, True),
    ("TTFT p50", "ms", "p50_ttft_ms", milliseconds, False),
    ("TTFT p99", "ms", "p99_ttft_ms", milliseconds, False),
    ("ITL p99", "ms", "p99_itl_ms", milliseconds, False),
    ("TPOT p99", "ms", "p99_tpot_ms", milliseconds, False),
    ("E2E p99", "ms", "p99_e2el_ms", milliseconds, False),
    ("Fairness", "Jain", "jain_tokens", number, True),
    ("Worst tenant", "attainment", "worst_tenant_attainment", percent, True),
    ("Preempted", "times", "preemptions", number, False),
)

_DEFINED = (
    "slo_attainment", "request_goodput", "output_throughput", "ttft", "itl", "tpot", "e2el", "jain_tokens",
    "entitled_tokens", "worst_tenant_attainment", "preemptions", "offered_rps",
)  # fmt: skip


def compare_html(rows: Seq[Row], title: str = "Policies compared") -> str:
    """Return a self-contained page about at least one row.

    Rows of one rate should have seen the same requests.
    """
    names = combinations(rows)
    looks = {
        name: Look(
            COLOURS[i % len(COLOURS)],
            SYMBOLS[i % len(SYMBOLS)],
            DASHES[i // len(COLOURS) % len(DASHES)],
        )
        for i, name in enumerate(names)
    }
    labelled = [(combination(row, rows), row) for row in rows]
    chosen = telling_rate(rows)
    tenants = any(row["summary"]["jain_tokens"] is not None for row in rows)
    second = (
        ("Goodput against fairness", GOODPUT, fairness_axis(labelled))
        if tenants
        else ("Goodput against TTFT", GOODPUT, TTFT)
    )
    body = [_choice(rates(rows), chosen), '<div class="charts">']
    body.append(front_chart(labelled, looks, chosen, "First token against next token", TTFT, ITL))
    body.append(front_chart(labelled, looks, chosen, *second))
    many = len(rates(rows))
    if many > 1:
        body += [_over_rate(labelled, looks, key) for key in ("slo_attainment", "request_goodput")]
    body += ["</div>", "<h2>All runs</h2>", _table(labelled, looks, chosen)]
    lead = (
        f"{len(names)} policy combination{'s' * (len(names) > 1)}, "
        f"{many} offered rate{'s' * (many > 1)}, {len(rows)} run{'s' * (len(rows) > 1)}"
    )
    return page(title, lead, "\n".join(body), _SCRIPT, defined=_DEFINED)


# --- over the rate --------------------------------------------------------------------------------


def _over_rate(labelled: Labelled, looks: Mapping[str, Look], key: str) -> str:
    share = key == "slo_attainment"
    title = "SLO attainment against offered rate" if share else "Goodput against offered rate"
    plot = figure(
        title,
        "Offered, requests/s",
        "Attainment, %" if share else "Goodput, requests/s",
        height=440,
    )
    for label, (colour, symbol, dash) in looks.items():
        points = sorted(
            (row["rate_rps"], row["summary"][key])
            for own, row in labelled
            if own == label and row["summary"][key] is not None
        )
        plot.add_scatter(
            x=[rate for rate, _ in points],
            y=[100 * value if share else value for _, value in points],
            name=escape(label),
            mode="lines+markers",
            line={"color": colour, "width": 2.2, "dash": dash},
            marker={"size": 8, "symbol": symbol},
            hovertemplate=f"<b>{escape(label)}</b><br>%{{x:.4g}} requests/s: %{{y:.4g}}{' %' if share else ''}<extra></extra>",
        )
    if share:
        plot.update_yaxes(range=[0, 103], tickvals=[0, 25, 50, 75, 90, 100])
        plot.add_hline(
            y=100 * _ATTAINMENT_GOAL, line={"color": "#5b6470", "width": 1.2, "dash": "dot"}
        )
    else:
        highest = max(row["rate_rps"] for _, row in labelled)
        plot.add_scatter(x=[0, highest], y=[0, highest], mode="lines", name="all offered", hoverinfo="skip",
                         line={"color": "#9aa3ad", "width": 1.2, "dash": "dot"})  # fmt: skip
        plot.update_yaxes(rangemode="tozero")
    lowest = min(row["rate_rps"] for _, row in labelled)
    span = max(row["rate_rps"] for _, row in labelled) - lowest
    plot.update_xaxes(range=[lowest - 0.05 * span, lowest + 1.05 * span])
    return chart(plot, f"rate-{key}")


# --- table ----------------------------------------------------------------------------------------


def _choice(all_rates: Seq[float], chosen: float) -> str:
    if len(all_rates) < 2:
        return ""
    buttons = "".join(
        f'<button data-rate="{rate!r}" aria-pressed="{str(rate == chosen).lower()}">{number(rate)}</button>'
        for rate in all_rates
    )
    return (
        f'<div class="choice"><span>Fronts and table at an offered rate, requests/s:</span>{buttons}'
        '<button data-rate="all" aria-pressed="false">table: all</button></div>'
    )


def _table(labelled: Labelled, looks: Mapping[str, Look], chosen: float) -> str:
    """Best value of each column at each rate in bold; click a head to sort."""
    best = {
        (rate, key): (max if more else min)(values) if len(set(values)) > 1 else None
        for _, _, key, _, more in _COLUMNS
        for rate in rates([row for _, row in labelled])
        if (
            values := [
                row["summary"][key]
                for _, row in labelled
                if row["rate_rps"] == rate and row["summary"][key] is not None
            ]
        )
    }
    heads = [("Policies", "", False), ("Rate", "requests/s", True)] + [
        (head, unit, True) for head, unit, *_ in _COLUMNS
    ]
    cells = "".join(
        f'<th data-sort="{index}" tabindex="0"{" class=n" if numeric else ""}>{escape(head)}<small>{escape(unit)}</small></th>'
        for index, (head, unit, numeric) in enumerate(heads)
    )
    lines = []
    for label, row in labelled:
        rate = row["rate_rps"]
        hidden = "" if rate == chosen else " hidden"
        dot = f'<span class="dot" style="background:{looks[label].colour}"></span>'
        line = f'<tr data-rate="{rate!r}"{hidden}><td data-value="{escape(label)}">{dot}{escape(label)}</td>'
        line += f'<td class="n" data-value="{rate!r}">{number(rate)}</td>'
        for _, _, key, written, _ in _COLUMNS:
            value = row["summary"][key]
            bold = " best" if value is not None and value == best[rate, key] else ""
            line += f'<td class="n{bold}" data-value="{"" if value is None else repr(value)}">{written(value)}</td>'
        lines.append(line + "</tr>")
    body = "".join(lines)
    return f'<div class="card scroll"><table id="runs"><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


_SCRIPT = """
const heads = document.querySelectorAll('#runs th'), rows = document.querySelector('#runs tbody');
function sort(head) {
  const at = Number(head.dataset.sort), up = head.getAttribute('aria-sort') !== 'ascending';
  heads.forEach(other => other.removeAttribute('aria-sort'));
  head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
  const read = row => row.children[at].dataset.value;
  const order = (a, b) => {
    const x = read(a), y = read(b);
    if (x === '' || y === '') return (x === '') - (y === '');
    const by = at ? Number(x) - Number(y) : x.localeCompare(y);
    return up ? by : -by;
  };
  [...rows.children].sort(order).forEach(row => rows.append(row));
}
heads.forEach(head => {
  head.addEventListener('click', () => sort(head));
  head.addEventListener('keydown', event => { if (event.key === 'Enter') sort(head); });
});
const buttons = document.querySelectorAll('.choice button');
buttons.forEach(button => button.addEventListener('click', () => {
  buttons.forEach(other => other.setAttribute('aria-pressed', other === button));
  const rate = button.dataset.rate;
  [...rows.children].forEach(row => { row.hidden = rate !== 'all' && row.dataset.rate !== rate; });
  if (rate === 'all') return;
  document.querySelectorAll('[id^=front-]').forEach(plot =>
    Plotly.restyle(plot, {visible: plot.data.map(trace => trace.meta.rate === Number(rate))}));
}));
"""
