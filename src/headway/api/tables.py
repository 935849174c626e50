"""Runs and comparisons as tables for a terminal: every metric with its unit and definition, once.

Needs rich, which takes time to load: `pages` loads this when a table is first asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence as Seq
from io import StringIO
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from headway.metrics import base_definitions
from headway.report.combinations import combination
from headway.report.numbers import milliseconds, number, percent

_SCALARS = (
    ("slo_attainment", percent),
    ("request_goodput", number),
    ("request_throughput", number),
    ("output_throughput", number),
)
_DISTRIBUTIONS = ("ttft", "tpot", "itl", "e2el", "queue_delay")
_EXTRAS = (
    ("capacity_rps", number),
    ("prefix_cache_hit_rate", percent),
    ("preemptions", number),
    ("joules_per_token", number),
    ("jain_tokens", number),
    ("worst_tenant_attainment", percent),
    ("max_service_lag_tokens", number),
)
_COMPARED = (
    # head, key, how it is written, is more better?
    ("attainment", "slo_attainment", percent, True),
    ("goodput\nrequests/s", "request_goodput", number, True),
    ("output\ntokens/s", "output_throughput", number, True),
    ("TTFT p50\nms", "p50_ttft_ms", milliseconds, False),
    ("TTFT p99\nms", "p99_ttft_ms", milliseconds, False),
    ("ITL p99\nms", "p99_itl_ms", milliseconds, False),
    ("TPOT p99\nms", "p99_tpot_ms", milliseconds, False),
    ("Jain\ntokens", "jain_tokens", number, True),
    ("worst\ntenant", "worst_tenant_attainment", percent, True),
    ("lag\ntokens", "max_service_lag_tokens", number, False),
)
_LEAST_NEEDED = (
    "jain_tokens", "output_throughput", "p50_ttft_ms", "p99_tpot_ms", "max_service_lag_tokens",
    "worst_tenant_attainment", "p99_itl_ms", "p99_ttft_ms",
)  # fmt: skip
"""Columns that a narrow terminal goes without, first those that are missed least."""
_OF_TENANTS = ("jain_tokens", "worst_tenant_attainment", "max_service_lag_tokens")
_TOLD_IF_ANY = ("prefix_cache_hit_rate", "preemptions")
_MOST_PARTS = 6
_MOST_LINES = 40
_UNLIMITED = 10_000  # characters
_LEAST_DEFINITION = 24  # characters that a definition gets however narrow the terminal

Shorten = Callable[[str], str]


def run_view(
    title: str,
    summary: Mapping[str, Any],
    slos: Seq[str],
    provenance: Mapping[str, str],
    notes: Seq[str],
    width: int,
) -> RenderableType:
    """One run, in at most 40 lines of `width` characters: definitions give way first."""
    asked = (
        f"{number(summary['offered'])} requests offered at {number(summary['offered_rps'])} requests/s; "
        f"{number(summary['completed'])} finished in {number(summary['duration'])} s"
    )
    head: list[RenderableType] = [Text(title, style="bold"), Text(asked)]
    head += [Text(f"SLO {'; '.join(slos)}")] if slos else []
    tail: list[RenderableType] = []
    for what, key in (("SLO class", "by_class"), ("tenant", "by_tenant")):
        if len(summary[key]) > 1:
            tail.append(_parts(what, summary[key]))
    said = [summary["offered_exceeds_capacity"], *notes]
    tail += [_line(f"! {note}", "yellow") for note in said if note]
    model = provenance.get("model")
    tail += [_line(f"Model: {model}.", "dim")] if model else []
    view = Group(*head, _metrics(summary, provenance, _sentence, width), *tail)
    for shorten, wrapped in ((_clause, True), (_clause, False)):
        if len(as_text(view, width).splitlines()) <= _MOST_LINES:
            break
        view = Group(*head, _metrics(summary, provenance, shorten, width, wrapped=wrapped), *tail)
    return view


def _line(text: str, style: str) -> Text:
    """One line however long: a terminal wraps it, a file does not."""
    return Text(text, style=style, no_wrap=True, overflow="ignore")


def compare_view(
    title: str, rows: Seq[Mapping[str, Any]], failures: Iterable[tuple[str, str]], width: int
) -> RenderableType:
    """One line a run, by rate, best values of each rate in bold; then what the columns mean."""
    tenants = any(row["summary"]["jain_tokens"] is not None for row in rows)
    keys = [column[1] for column in _COMPARED if tenants or column[1] not in _OF_TENANTS]
    table = _runs(rows, keys)
    for key in _LEAST_NEEDED:
        if _width(table) <= width:
            break
        keys = [other for other in keys if other != key]
        table = _runs(rows, keys)
    meanings = base_definitions()
    metrics = dict.fromkeys(re.sub(r"^p\d+_|_ms$", "", key) for key in keys)
    said: list[RenderableType] = [Text(title, style="bold"), table]
    said += [Text(f"{_name(key)}: {_clause(meanings[key][0])}", style="dim") for key in metrics]
    said += [_line(f"! {who} did not run: {why}", "yellow") for who, why in failures]
    return Group(*said)


def _runs(rows: Seq[Mapping[str, Any]], keys: Seq[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("requests/s", justify="right", vertical="bottom", no_wrap=True)
    table.add_column("policies", no_wrap=True)
    columns = [column for column in _COMPARED if column[1] in keys]
    for head, *_ in columns:
        table.add_column(head, justify="right", no_wrap=True)
    last = None
    for row in sorted(rows, key=lambda row: row["rate_rps"]):
        rate = row["rate_rps"]
        if last not in (None, rate):
            table.add_row()
        rivals = [other["summary"] for other in rows if other["rate_rps"] == rate]
        cells = [_cell(row["summary"], rivals, *column[1:]) for column in columns]
        table.add_row("" if rate == last else number(rate), combination(row, rows), *cells)
        last = rate
    return table


def as_text(view: RenderableType, width: int) -> str:
    """The view without colours."""
    console = Console(file=StringIO(), width=width, color_system=None, highlight=False)
    with console.capture() as captured:
        console.print(view, crop=False)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _metrics(
    summary: Mapping[str, Any],
    provenance: Mapping[str, str],
    shorten: Shorten,
    width: int,
    *,
    wrapped: bool = True,
) -> Table:
    rows = list(_metric_rows(summary, provenance, shorten))
    table = _numbers()
    for row in rows:
        table.add_row(*row[:-1])
    left = max(_LEAST_DEFINITION, width - _width(table) - 2)
    table = _numbers()
    table.add_column(
        "definition", style="dim", max_width=left, no_wrap=not wrapped, overflow="ellipsis"
    )
    for row in rows:
        table.add_row(*row)
    return table


def _numbers() -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("metric", no_wrap=True)
    for percentile in ("p50", "p90", "p99"):
        table.add_column(percentile, justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    return table


def _metric_rows(
    summary: Mapping[str, Any], provenance: Mapping[str, str], shorten: Shorten
) -> Iterator[tuple[str, ...]]:
    meanings = {key: (unit, shorten(words)) for key, (words, unit) in base_definitions().items()}
    for key, written in _SCALARS:
        yield _name(key), written(summary[key]), "", "", *meanings[key]
    for key in _DISTRIBUTIONS:
        if key == "queue_delay" and summary["p50_queue_delay_ms"] is None:
            continue  # no client can see it
        p50, p90, p99 = (milliseconds(summary[f"{p}_{key}_ms"]) for p in ("p50", "p90", "p99"))
        yield _name(key), p50, p90, p99, *meanings[key]
    for key, written in _EXTRAS:
        if key in _OF_TENANTS and summary["tenants"] < 2:
            continue
        if summary[key] or (summary[key] is not None and key not in _TOLD_IF_ANY):
            unit, meaning = meanings[key]
            if key == "joules_per_token":
                meaning += f" Energy: {provenance['energy_j']}."
            yield _name(key), written(summary[key]), "", "", unit, meaning
    for benchmark, score in (summary["quality"] or {}).items():
        yield f"quality {benchmark}", number(score), "", "", *meanings["quality"]


def _width(table: Table) -> int:
    console = Console(width=_UNLIMITED)
    return Measurement.get(console, console.options, table).maximum


def _parts(what: str, parts: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column(what)
    heads = (
        "offered",
        "attainment",
        "goodput/s",
        "TTFT p99 ms",
        "TPOT p99 ms",
        "ITL p99 ms",
        "E2E p99 ms",
    )
    for head in heads:
        table.add_column(head, justify="right")
    shown = list(parts.items())[:_MOST_PARTS]
    for name, part in shown:
        times = (f"p99_{metric}_ms" for metric in ("ttft", "tpot", "itl", "e2el"))
        table.add_row(
            name or "(none)",
            number(part["offered"]),
            percent(part["slo_attainment"]),
            number(part["request_goodput"]),
            *(milliseconds(part[key]) for key in times),
        )
    if len(parts) > len(shown):
        table.add_row(f"… {len(parts) - len(shown)} more in --json")
    return table


def _cell(
    summary: Mapping[str, Any], rivals: Seq[Mapping[str, Any]], key: str, written: Any, more: bool
) -> Text:
    value = summary[key]
    known = [rival[key] for rival in rivals if rival[key] is not None]
    best = bool(known) and value == (max if more else min)(known)
    return Text(written(value), style="bold green" if best and len(rivals) > 1 else "")


_NAMES = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2el": "E2E latency"}
_NAMES |= {
    "slo_attainment": "SLO attainment",
    "request_goodput": "goodput",
    "capacity_rps": "capacity",
}
_NAMES |= {"request_throughput": "throughput", "joules_per_token": "energy"}


def _name(key: str) -> str:
    return _NAMES.get(key, key.removesuffix("_tokens").replace("_", " "))


def _sentence(words: str) -> str:
    """The first sentence: the rest is on the page and in the documentation."""
    return re.split(r"(?<=[.;:])\s(?=[A-Z]|rejected)", words)[0].rstrip(";:.") + "."


def _clause(words: str) -> str:
    """Less than a sentence: without what follows a colon in its middle, and without asides."""
    plain = _sentence(words)
    first, *rest = (plain if "^" in plain else re.sub(r" \([^)]*\)", "", plain)).split("; ")
    population = next((part for part in rest if part.startswith("over ")), "")
    before, _, after = first.partition(": ")
    brief = after if after and len(before) < 30 else before
    brief = f"{brief}; {population}" if population else brief
    return f"{brief[0].upper()}{brief[1:]}".rstrip(".") + "."
