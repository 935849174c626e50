"""One measured run on one page: what a run of the simulator shows, and whether the client was fit to judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence as Seq
from html import escape
from typing import Any

from headway.report.numbers import milliseconds, number, percent
from headway.report.page import COLOURS, chart, figure, page, table
from headway.report.run_page import run_sections

_FOOTER = (
    "Client-side times: they start when a request was due by the schedule, whether or not it could be sent, and "
    "end when the event that brought the token was read. Network and client are part of them. Holding tokens "
    "back smooths ITL tails, and dropping a request that has already missed can raise goodput: read both "
    "beside SLO attainment, which counts every request offered."
)


def bench_html(
    document: Mapping[str, Any],
    curves: Mapping[str, Any],
    title: str,
    definitions: Mapping[str, tuple[str, str]],
) -> str:
    """Return a self-contained page from a measured run's document, curves and definitions."""
    loud = [document["generator"]["verdict"], document["partial"], *document["notes"]]
    warnings = [f'<div class="card warning">{escape(said)}</div>' for said in loud if said]
    charts = _in_flight(curves["in_flight"], document["server"])
    if document["server"].get("kv_usage"):
        charts += _kv_usage(document["server"])
    body = [*warnings, run_sections(document, curves, charts)]
    body += ["<h2>Was the work done that was asked?</h2>", _lengths(document["lengths"])]
    body += ["<h2>The load generator</h2>", _generator(document)]
    lead = (
        f"{number(document['offered'])} requests offered at {number(document['offered_rps'])} requests/s; "
        f"{number(document['completed'])} finished; first due time to last token "
        f"{number(document['duration'])} s"
    )
    return page(title, lead, "\n".join(body), definitions=definitions, footer=_FOOTER)


def _in_flight(flying: Mapping[str, Seq[float]], server: Mapping[str, Seq[Any]]) -> str:
    plot = figure("Requests in flight", "s since the run began", "Requests", height=360)
    lines = [("due and not ended (client)", flying["t_s"], flying["requests"], "hv")]
    lines += [
        (f"{name} (server)", server["t_s"], server[name], "linear")
        for name in ("running", "waiting")
        if server.get(name)
    ]
    for colour, (name, times, levels, shape) in zip(COLOURS, lines, strict=False):
        plot.add_scatter(
            x=times, y=levels, name=name, mode="lines", line={"color": colour, "shape": shape}
        )
    plot.update_yaxes(rangemode="tozero")
    plot.update_layout(showlegend=True)
    return chart(plot, "in-flight", wide=True)


def _kv_usage(server: Mapping[str, Seq[Any]]) -> str:
    plot = figure("KV memory in use, by the server", "s since the run began", "%", height=300)
    usage = [None if share is None else 100 * share for share in server["kv_usage"]]
    plot.add_scatter(x=server["t_s"], y=usage, mode="lines", line={"color": COLOURS[2]})
    plot.update_yaxes(range=[0, 101])
    return chart(plot, "kv-usage", wide=True)


def _lengths(lengths: Mapping[str, Any]) -> str:
    rows = [
        [
            f"{what} tokens",
            number(lengths[f"wanted_{what}_tokens"]),
            number(lengths[f"{what}_tokens"]),
            percent(lengths[f"{what}_achieved"]),
        ]
        for what in ("prompt", "output")
    ]
    return table([("", ""), ("Wanted", ""), ("By usage", ""), ("Achieved", "")], rows)


def _generator(document: Mapping[str, Any]) -> str:
    told, sent = document["generator"], document["from_send"]
    rows = [
        [name, *(milliseconds(told[f"{key}_{part}_ms"]) for part in ("p50", "p99", "max"))]
        for name, key in (("Lag behind the schedule, ms", "lag"), ("Held by the limit, ms", "held"))
    ]
    words = (
        f"p99 of the lag may be {number(told['lag_limit_ms'])} ms. "
        f"{number(told['cpu_us_per_token'], 3)} µs of CPU a token, {percent(told['cpu_share'])} of a core; "
        f"{number(told['new_connections'])} new connections. From sending instead of from the schedule: mean "
        f"TTFT {milliseconds(sent['mean_ttft_ms'])} ms, mean E2E {milliseconds(sent['mean_e2el_ms'])} ms."
    )
    head = [("", ""), ("p50", ""), ("p99", ""), ("max", "")]
    return f'{table(head, rows)}<p class="lead" style="margin-top:10px">{escape(words)}</p>'
