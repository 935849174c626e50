"""One run on one page: what was promised, what was kept, and how the latencies are distributed."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from math import log10
from typing import Any

from headway.report.numbers import milliseconds, number, percent
from headway.report.page import COLOURS, DASHES, chart, facts, figure, page, table

_DISTRIBUTIONS = {
    "ttft": ("TTFT: time to first token", "ttft_ms"),
    "itl": ("ITL: gap between tokens", "itl_p99_ms"),
    "tpot": ("TPOT: time per output token", "tpot_ms"),
    "e2el": ("End-to-end latency", "e2e_ms"),
}

_FLOOR_MS = 1e-3  # a log axis has no place for the 0 ms between speculative tokens


def run_html(summary: Mapping[str, Any], curves: Mapping[str, Any], title: str = "Run") -> str:
    """Return a self-contained page from what `metrics.summarise` and `metrics.curves` returned."""
    lead = (
        f"{number(summary['offered'])} requests offered at {number(summary['offered_rps'])} "
        f"requests/s; first arrival to last token {number(summary['duration'])} s"
    )
    return page(title, lead, run_sections(summary, curves))


def run_sections(summary: Mapping[str, Any], curves: Mapping[str, Any], over_time: str = "") -> str:
    """Return the body of such a page; `over_time` (HTML) is more charts beside attainment over time."""
    body = [_verdict(summary), _facts(summary), "<h2>Promises kept over time</h2>"]
    body += ['<div class="charts">', _over_time(curves["over_time"]), over_time, "</div>"]
    body += ["<h2>Latency distributions</h2>", '<div class="charts">']
    body += [_distribution(name, curves["cdf"][name], summary["slo"]) for name in _DISTRIBUTIONS]
    body += ["</div>", "<h2>By SLO class</h2>", _parts("SLO class", summary["by_class"], summary)]
    if summary["tenants"] > 1:
        body += [
            "<h2>By tenant</h2>",
            _parts("Tenant", summary["by_tenant"], summary),
            _fairness(summary),
        ]
    body += ["<h2>Why requests missed</h2>", _misses(summary)]
    return "\n".join(body)


def _verdict(summary: Mapping[str, Any]) -> str:
    verdict = summary["offered_exceeds_capacity"]
    return f'<div class="card warning">{escape(verdict)}</div>' if verdict else ""


def _facts(summary: Mapping[str, Any]) -> str:
    entries = [
        (percent(summary["slo_attainment"]), "SLO attainment"),
        (number(summary["request_goodput"], 3), "goodput, requests/s"),
        (number(summary["request_throughput"], 3), "finished, requests/s"),
        (number(summary["output_throughput"]), "output, tokens/s"),
        (milliseconds(summary["p99_ttft_ms"]), "p99 TTFT, ms"),
        (milliseconds(summary["p99_itl_ms"]), "p99 ITL, ms"),
        (milliseconds(summary["p99_tpot_ms"]), "p99 TPOT, ms"),
        (percent(summary["prefix_cache_hit_rate"]), "prefix cache hit rate"),
    ]
    if summary["joules_per_token"] is not None:
        entries.append((number(summary["joules_per_token"], 3), "J/token"))
    if summary["capacity_rps"] is not None:
        entries.append((number(summary["capacity_rps"], 3), "capacity, requests/s"))
    return facts(entries)


def _over_time(over_time: Mapping[str, Any]) -> str:
    plot = figure(
        "SLO attainment and offered load, by time of arrival",
        "Arrival, s after the first",
        "Attainment, %",
        height=360,
    )
    bars = {"name": "offered load", "marker": {"color": "#d3dae2"}, "yaxis": "y2"}
    plot.add_bar(x=over_time["t_s"], y=over_time["offered_rps"], width=over_time["bin_s"], offset=0, **bars,
                 hovertemplate="%{y:.3g} requests/s<extra></extra>")  # fmt: skip
    middles = [time + over_time["bin_s"] / 2 for time in over_time["t_s"]]
    shares = [None if share is None else 100 * share for share in over_time["attainment"]]
    plot.add_scatter(x=middles, y=shares, name="SLO attainment", mode="lines+markers", connectgaps=False,
                     line={"color": COLOURS[0], "width": 2.5}, marker={"size": 6},
                     hovertemplate="%{y:.1f} % of those who arrived at %{x:.3g} s<extra></extra>")  # fmt: skip
    plot.update_layout(
        yaxis={
            "range": [0, 103],
            "tickvals": [0, 25, 50, 75, 100],
            "overlaying": "y2",
            "side": "left",
        },
        yaxis2={
            "side": "right",
            "title": "Offered, requests/s",
            "rangemode": "tozero",
            "showgrid": False,
            "title_standoff": 10,
        },
        margin={"r": 72},
        bargap=0,
    )
    return chart(plot, "over-time", wide=True)


def _distribution(name: str, by_class: Mapping[str, Any], slos: Mapping[str, Any]) -> str:
    title, target_key = _DISTRIBUTIONS[name]
    plot = figure(title, "ms, log scale", "Share up to it, %")
    for index, (slo_class, (values, shares)) in enumerate(by_class.items()):
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)]
        plot.add_scatter(x=[max(value, _FLOOR_MS) for value in values], y=[100 * share for share in shares],
                         name=escape(slo_class), mode="lines", line={"color": colour, "width": 2.5, "dash": dash, "shape": "hv"},
                         hovertemplate="%{y:.1f} % up to %{x:.4g} ms<extra>" + escape(slo_class) + "</extra>")  # fmt: skip
        target = (slos.get(slo_class) or {}).get(target_key)
        if target:
            _target(plot, target, f"{slo_class} SLO {number(target)}", colour)
    _fit(plot, by_class, [(slos.get(name) or {}).get(target_key) for name in by_class])
    plot.update_yaxes(range=[0, 101])
    plot.update_layout(showlegend=True)
    return chart(plot, f"cdf-{name}")


def _target(plot: Any, target_ms: float, label: str, colour: str) -> None:
    """Draw an SLO target. By hand: plotly's own vertical lines misplace their text on log axes."""
    plot.add_shape(type="line", x0=target_ms, x1=target_ms, y0=0, y1=1, yref="paper",
                   line={"color": colour, "width": 1.5, "dash": "dot"})  # fmt: skip
    plot.add_annotation(x=log10(target_ms), y=0.02, yref="paper", text=escape(label), textangle=-90, showarrow=False,
                        xanchor="right", yanchor="bottom", font={"size": 11, "color": colour})  # fmt: skip


def _fit(plot: Any, by_class: Mapping[str, Any], targets: list[float | None]) -> None:
    """Show all values and all targets, with ticks as dense as the range is narrow."""
    seen = [max(value, _FLOOR_MS) for values, _ in by_class.values() for value in values]
    seen += [target for target in targets if target]
    if seen:
        low, high = log10(min(seen)), log10(max(seen))
        pad = 0.04 * (high - low) + 0.02
        ticks = None if high - low < 1 else "D2" if high - low < 3 else 1
        plot.update_xaxes(type="log", range=[low - pad, high + pad], dtick=ticks, tickformat="~r")


def _parts(what: str, parts: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    head = [
        (what, ""), ("Offered", "requests"), ("Finished", "requests"), ("SLO attainment", "of offered"),
        ("Goodput", "requests/s"), ("TTFT p50", "ms"), ("TTFT p99", "ms"), ("TPOT p99", "ms"), ("ITL p99", "ms"),
        ("E2E p99", "ms"), ("Queue p99", "ms"), ("Cache hits", "of prompt"),
    ]  # fmt: skip
    rows = [_part(name or "(none)", part) for name, part in parts.items()]
    if len(rows) > 1:
        rows.append(_part("all", summary))
    return table(head, rows)


def _part(name: str, part: Mapping[str, Any]) -> list[str]:
    times = ("p50_ttft", "p99_ttft", "p99_tpot", "p99_itl", "p99_e2el", "p99_queue_delay")
    return [
        name,
        number(part["offered"]),
        number(part["completed"]),
        percent(part["slo_attainment"]),
        number(part["request_goodput"], 3),
        *(milliseconds(part[f"{key}_ms"]) for key in times),
        percent(part["prefix_cache_hit_rate"]),
    ]


def _fairness(summary: Mapping[str, Any]) -> str:
    words = (
        f"Jain's index of tokens {number(summary['jain_tokens'], 3)}; smallest attainment of a "
        f"tenant {percent(summary['worst_tenant_attainment'])}; largest service lag "
        f"{number(summary['max_service_lag_tokens'])} tokens."
    )
    return f'<p class="lead" style="margin-top:10px">{escape(words)}</p>'


def _misses(summary: Mapping[str, Any]) -> str:
    misses = {name: count for name, count in summary["slo_misses"].items() if count}
    if not misses:
        return '<p class="lead">None did.</p>'
    rows = [
        [name, number(count), percent(count / summary["offered"])] for name, count in misses.items()
    ]
    return table([("Target or outcome", ""), ("Requests", ""), ("Share", "of offered")], rows)
