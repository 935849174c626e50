"""How the rows of a comparison are called and grouped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence as Seq
from typing import Any

KINDS = ("batching", "ordering", "memory", "speculation", "routing", "admission", "control")


def varying(rows: Seq[Mapping[str, Any]]) -> list[str]:
    """Return the policy kinds in which the rows differ; `batching` when they all agree."""
    kinds = [kind for kind in KINDS if len({row.get(kind) for row in rows}) > 1]
    return kinds or ["batching"]


def combination(row: Mapping[str, Any], rows: Seq[Mapping[str, Any]]) -> str:
    """Name a row by the policies in which `rows` differ."""
    return " + ".join(str(row.get(kind) or "–") for kind in varying(rows))


def combinations(rows: Seq[Mapping[str, Any]]) -> list[str]:
    """Return the names of all combinations, each once, in order of appearance."""
    return list(dict.fromkeys(combination(row, rows) for row in rows))


def rates(rows: Seq[Mapping[str, Any]]) -> list[float]:
    """Return all offered rates, ascending."""
    return sorted({row["rate_rps"] for row in rows})


def telling_rate(rows: Seq[Mapping[str, Any]]) -> float:
    """Return the rate at which attainment differs most between rows; the highest of equals."""

    def spread(rate: float) -> float:
        shares = [
            row["summary"]["slo_attainment"] or 0.0 for row in rows if row["rate_rps"] == rate
        ]
        return max(shares) - min(shares)

    return max(rates(rows), key=lambda rate: (spread(rate), rate))
