"""Trials as people read them: a table for a terminal, and the page of all reproductions in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence as Seq
from typing import Any

from rich.table import Table

from headway.reproductions.claim import claims

Row = Mapping[str, Any]
"""As `Trial.row` gives it, or as it was read back from JSON."""

RULE = (
    "One rule for all claims, fixed before the first was tried. Over the seeds, all arms with the same requests: "
    "**reproduced** when the 95 % interval of the gain excludes no gain, the gain is at least half the paper's in log "
    "terms, and the gain in the null setting, where the mechanism must gain nothing, is within 5 % of 1; **partly** "
    "when only the first and the last hold; else **not reproduced**. The gain against the strong baseline (chunked "
    "prefill, prefix cache, earliest deadline; for routing: least work and prefix cache) judges nothing."
)


def table(rows: Seq[Row]) -> Table:
    """The verdicts, one line each."""
    shown = Table(title="Published claims, tried by one rule", title_justify="left")
    for name in ("claim", "verdict", "paper", "ours", "95 % interval", "null", "vs strong", "s"):
        shown.add_column(name, justify="left" if name in ("claim", "verdict") else "right")
    for row in rows:
        shown.add_row(*_cells(row))
    return shown


def listing() -> Table:
    """The registered claims."""
    shown = Table(title="Registered claims", title_justify="left")
    for name in ("name", "claim", "paper", "baseline", "null"):
        shown.add_column(name)
    for name, claim in claims().items():
        shown.add_row(name, claim.claim, f"{claim.paper_gain:g} ×", claim.baseline, claim.null)
    return shown


def markdown(rows: Seq[Row], more: Seq[str] = ()) -> str:
    """The whole page; `more` are lines after the verdicts."""
    lines = ["# Reproductions", "", RULE, "", "Made by `headway reproduce --all --page FILE`.", ""]
    lines += ["| claim | verdict | paper | ours | 95 % interval | null | vs strong | s |"]
    lines += ["|---|---|---:|---:|---:|---:|---:|---:|"]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    lines += ["", "What did not hold, and why we think so: [wrong](wrong.md).", "", *more]
    for row in rows:
        lines += ["", *_section(row)]
    return "\n".join(lines) + "\n"


def _section(row: Row) -> list[str]:
    claim = claims()[row["name"]]
    lines = [f"## {row['name']}: {row['verdict']}", ""]
    lines += [f"{claim.claim[0].upper()}{claim.claim[1:]}; {claim.metric}. Paper: {claim.setup}."]
    lines += ["", f"- here: {row['setup']}", f"- null: {row['null_setup']}"]
    lines += [f"- baseline: {claim.baseline}"]
    lines += [f"- why not more: {reason}" for reason in row["reasons"]]
    lines += [f"- differs: {difference}" for difference in row["differs"]]
    lines += ["", "| arm | by seed |", "|---|---|"]
    for arm, values in row["values"].items():
        lines.append(f"| {arm} | {', '.join(_number(value) for value in values)} |")
    return lines


def _cells(row: Row) -> list[str]:
    low, high = row["interval"]
    return [
        row["name"],
        row["verdict"],
        f"{_number(row['paper'])} ×",
        f"{_number(row['ours'])} ×",
        f"{_number(low)} to {_number(high)}",
        _number(row["null"]),
        f"{_number(row['strong_baseline'])} ×",
        _number(row["seconds"]),
    ]


def _number(value: float | None) -> str:
    return "∞" if value is None else f"{value:.3g}"
