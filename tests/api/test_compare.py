import json
from dataclasses import dataclass

import pytest

import headway
from headway.api import Parts, Scenario, compare_runs, run
from headway.core import Sequence
from headway.errors import DoesNotFitError, OptionError, UnknownNameError
from headway.runtime import policy_names


@dataclass
class Lifo:
    penalty: int = 0

    def key(self, sequence: Sequence) -> tuple[float, ...]:
        return (-sequence.request.arrival_ns + self.penalty, sequence.request.id)


SMALL = Scenario(requests=40, rate_rps=20.0)


def test_every_combination_meets_every_rate_with_the_same_requests() -> None:
    comparison = compare_runs(
        SMALL, {"batching": ("all",), "ordering": ("fcfs", "shortest_prompt")}, rates=("0.5x", "2x")
    )
    assert len(comparison.rows) == 2 * 2 * len(policy_names("batching"))
    assert {row["rate_rps"] for row in comparison.rows} == {10.0, 40.0}
    for rate in (10.0, 40.0):
        mine = [row["summary"] for row in comparison.rows if row["rate_rps"] == rate]
        assert len({summary["offered_rps"] for summary in mine}) == 1
        assert len({summary["total_input_tokens"] for summary in mine}) == 1


def test_a_row_is_the_run_itself() -> None:
    [row] = compare_runs(SMALL, {"batching": ("splitfuse",)}, rates=(15,)).rows
    assert row["summary"] == run(SMALL.at(batching="splitfuse", rate_rps=15.0)).summary


def test_jobs_do_not_change_a_byte() -> None:
    choices = {"batching": ("sarathi", "prefill_first")}
    assert compare_runs(SMALL, choices, jobs=2).json(meta=False) == compare_runs(
        SMALL, choices
    ).json(meta=False)


def test_what_does_not_pickle_is_refused_with_jobs() -> None:
    parts = Parts(policies={"ordering": lambda: Lifo(1)})
    with pytest.raises(OptionError, match="jobs=1"):
        compare_runs(SMALL, {"batching": ("sarathi", "splitfuse")}, parts=parts, jobs=2)


def test_an_option_concerns_the_policies_that_have_its_name() -> None:
    comparison = headway.compare(
        batching=["sarathi", "splitfuse"], requests=20, options={"sarathi.token_budget": 128}
    )
    usual = headway.compare(batching=["sarathi", "splitfuse"], requests=20)
    same = [a["summary"] == b["summary"] for a, b in zip(comparison.rows, usual.rows, strict=True)]
    assert same == [False, True]
    with pytest.raises(UnknownNameError, match="prefill_first"):
        headway.compare(batching="sarathi", requests=20, options={"prefill_first.max_num_seqs": 3})


def test_objects_stand_beside_names() -> None:
    comparison = headway.compare(batching="sarathi", ordering=["fcfs", Lifo, Lifo()], requests=20)
    assert [row["ordering"] for row in comparison.rows] == ["fcfs", "Lifo", "Lifo"]


def test_a_combination_that_does_not_fit_leaves_the_others() -> None:
    scenario = Scenario(
        gpu="h100", model="qwen3-32b", requests=20, memory_utilisation=0.7945, max_tokens=64
    )
    comparison = compare_runs(
        scenario,
        {"batching": ("sarathi", "prefill_first")},
    )
    assert [row["batching"] for row in comparison.rows] == ["sarathi"]
    [(who, why)] = comparison.failures
    assert who.startswith("prefill_first")
    assert "needs" in why
    assert f"! {who} did not run" in comparison.table()
    with pytest.raises(DoesNotFitError):
        compare_runs(scenario.at(model="llama-3.1-405b"), {"batching": ("all",)})


def test_table_page_and_json() -> None:
    comparison = headway.compare(
        ordering=["fcfs", "shortest_prompt"], requests=30, tenants=2, rates=["1x", "3x"]
    )
    for width in (60, 80, 120, 200):
        lines = comparison.table(width).splitlines()
        assert "policies" in lines[3] or "policies" in lines[2]
        assert sum("sarathi + fcfs" in line for line in lines) == 2
    assert len(json.loads(comparison.json())["rows"]) == len(comparison.rows)
    pytest.importorskip("plotly")
    page = comparison.html()
    assert "sarathi + shortest_prompt" in page
    assert "<script src" not in page


@pytest.mark.parametrize("rate", ["fast", "-1x", 0])
def test_a_rate_is_a_number_or_a_multiple(rate: str | float) -> None:
    with pytest.raises(OptionError, match="rates"):
        compare_runs(SMALL, {}, rates=(rate,))
