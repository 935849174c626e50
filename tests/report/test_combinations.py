from __future__ import annotations

from typing import Any

from headway.report.combinations import combination, combinations, rates, telling_rate


def row(batching: str, ordering: str, rate: float, attainment: float | None) -> dict[str, Any]:
    return {
        "batching": batching,
        "ordering": ordering,
        "memory": "recompute",
        "rate_rps": rate,
        "summary": {"slo_attainment": attainment},
    }


ROWS = [
    row("sarathi", "fcfs", 2.0, 1.0),
    row("sarathi", "edf", 2.0, 0.9),
    row("sarathi", "fcfs", 4.0, 0.7),
    row("sarathi", "edf", 4.0, 0.2),
    row("sarathi", "fcfs", 8.0, 0.1),
    row("sarathi", "edf", 8.0, None),
]


def test_a_combination_is_named_by_what_differs() -> None:
    assert combinations(ROWS) == ["fcfs", "edf"]
    both = [*ROWS, row("orca", "fcfs", 2.0, 1.0)]
    assert combination(both[-1], both) == "orca + fcfs"


def test_runs_that_do_not_differ_are_named_by_their_batching() -> None:
    assert combinations([ROWS[0], ROWS[2]]) == ["sarathi"]


def test_the_telling_rate_is_where_attainment_differs_most() -> None:
    assert rates(ROWS) == [2.0, 4.0, 8.0]
    assert telling_rate(ROWS) == 4.0
