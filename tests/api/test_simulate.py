import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import headway
from headway.api import Parts, Result, Scenario, assemble, run
from headway.api.scenario import ScenarioOptions
from headway.core import Sequence, Step, Transfer
from headway.errors import DoesNotFitError, HeadwayError, OptionError, UnknownNameError
from headway.metrics import definitions
from headway.policies.batching.sarathi import Sarathi
from headway.runtime.loader import KINDS
from headway.workload import conversation_like

SMALL = Scenario(requests=60, rate_rps=20.0, tenants=2)

VLLM_KEYS = (
    "duration completed total_input_tokens total_output_tokens request_throughput request_goodput "
    "output_throughput total_token_throughput mean_ttft_ms median_ttft_ms std_ttft_ms p99_ttft_ms "
    "mean_tpot_ms median_tpot_ms p99_tpot_ms mean_itl_ms p99_itl_ms mean_e2el_ms p99_e2el_ms"
).split()
OUR_KEYS = (
    "slo_attainment capacity_rps jain_tokens worst_tenant_attainment max_service_lag_tokens by_class "
    "by_tenant energy_j quality offered_exceeds_capacity config provenance notes meta"
).split()


@dataclass
class Lifo:
    dynamic: ClassVar[bool] = False
    penalty: int = 0

    def key(self, sequence: Sequence) -> tuple[float, ...]:
        return (-sequence.request.arrival_ns + self.penalty, sequence.request.id)


class Constant:
    """Every step takes 10 ms."""

    layers = 4

    def durations_ns(self, step: Step, repeats: int) -> list[int]:
        return [10_000_000] * repeats

    def transfer_ns(self, transfer: Transfer) -> int:
        return 1

    def chunk_time_ns(self, tokens: int, context_tokens: int) -> int:
        return 10_000_000


def test_equal_scenarios_give_equal_bytes_but_for_meta() -> None:
    first, second = run(SMALL), run(SMALL)
    assert first.json(meta=False) == second.json(meta=False)
    assert first.json(meta=False) != run(SMALL.at(seed=1)).json(meta=False)


def test_no_wall_time_stands_outside_meta() -> None:
    document = json.loads(run(SMALL).json())
    assert "wall_s" in document.pop("meta")
    assert "wall" not in json.dumps(document)


def test_the_document_has_the_keys_of_vllm_and_ours() -> None:
    document = json.loads(run(SMALL).json())
    assert not {*VLLM_KEYS, *OUR_KEYS} - set(document)
    assert set(document["by_tenant"]) == {"t0", "t1"}
    assert document["quality"] is None
    assert "prior" in document["provenance"]["energy_j"]
    assert document["energy_j"] > 0


def test_every_key_of_the_summary_is_defined() -> None:
    assert not set(run(SMALL).summary) - set(definitions())


def test_the_echo_holds_resolved_options() -> None:
    config = run(SMALL.at(options={"sarathi.token_budget": "256"}, model="Llama-3.1-8B")).config
    assert config["options"]["batching.token_budget"] == 256
    assert config["options"]["batching.max_num_seqs"] == 256
    assert config["model"] == "llama-3.1-8b"
    assert config["gpu"] == "h100-sxm"
    assert config["kv_blocks"] > 0
    assert config["step_tokens"] == 256


def test_keywords_are_the_fields_of_a_scenario() -> None:
    assert set(ScenarioOptions.__annotations__) == {f.name for f in fields(Scenario)} - set(KINDS)


def test_requests_come_as_columns_that_agree_with_the_summary() -> None:
    result = run(SMALL.at(slo=("ttft=40ms",)))
    columns = result.requests()
    assert {len(column) for column in columns.values()} == {60}
    ttft = columns["first_token_ns"] - columns["arrival_ns"]
    assert np.quantile(ttft, 0.5) / 1e6 == pytest.approx(result.summary["median_ttft_ms"])
    assert columns["attained"].mean() == pytest.approx(result.summary["slo_attainment"], abs=1e-6)
    assert (columns["attained"] == (ttft <= 40_000_000)).all()


def test_the_table_is_short_and_defines_what_it_shows() -> None:
    quiet = run(SMALL.at(tenants=0))
    loud = run(
        SMALL.at(
            slo=("a:ttft=1s", "b:tpot=10ms", "c:e2e=9s"), tenants=9, quality={"mmlu": 0.7}, rate_rps=300.0
        )
    )  # fmt: skip
    for width in (72, 80, 100, 160):
        for result in (quiet, loud):
            lines = result.table(width).splitlines()
            assert len(lines) <= 40
            assert "SLO attainment" in "".join(lines)
    assert "Arrival to first output token" in loud.table(100)
    assert quiet.table(100).count("Time to first token") == 1


def test_overload_is_said_in_one_line() -> None:
    table = run(Scenario(requests=400, rate_rps=200.0)).table()
    assert [
        line for line in table.splitlines() if line.startswith("! Offered load exceeds capacity")
    ]


def test_policies_may_be_classes_objects_factories_and_files(tmp_path: Path) -> None:
    file = tmp_path / "last_first.py"
    file.write_text(
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class LastFirst:\n"
        "    penalty: int = 0\n"
        "    def key(self, sequence):\n"
        "        return (-sequence.request.arrival_ns + self.penalty, sequence.request.id)\n"
    )
    usual = {"requests": 60, "rate_rps": 60.0}

    def numbers(ordering: object) -> Result:
        return headway.simulate(ordering=ordering, instances=2, **usual)  # type: ignore[arg-type]

    by_file = numbers(str(file))
    assert by_file.config["ordering"] == "last_first"
    assert by_file.summary != numbers("fcfs").summary
    for same in (Lifo, Lifo(), lambda: Lifo(0), f"{file}:LastFirst"):
        assert numbers(same).summary == by_file.summary


def test_an_object_is_not_shared_between_runs_or_instances() -> None:
    mine = Sarathi(token_budget=256)
    parts = Parts(policies={"batching": mine})
    made = [
        instance.batching
        for instance in assemble(SMALL.at(instances=2), parts).simulation.instances
    ]
    assert made[0] == made[1] == mine
    assert len({id(mine), *map(id, made)}) == 3


def test_options_reach_a_class() -> None:
    result = headway.simulate(ordering=Lifo, requests=5, options={"ordering.penalty": 3})
    assert result.config["options"]["ordering.penalty"] == 3
    with pytest.raises(UnknownNameError, match="penalty"):
        headway.simulate(ordering=Lifo, requests=5, options={"ordering.penality": 3})


def test_timing_and_workload_may_be_objects() -> None:
    workload = conversation_like(10.0, requests=30)
    result = headway.simulate(timing=Constant(), workload=workload)
    assert result.summary["p50_itl_ms"] == pytest.approx(10, rel=0.01)
    assert result.summary["energy_j"] is None
    assert result.summary["offered"] == 30
    again = headway.simulate(timing=Constant(), workload=workload)
    assert again.json(meta=False) == result.json(meta=False)


def test_a_request_too_long_is_rejected_with_a_reason_and_missed() -> None:
    result = run(SMALL.at(kv_blocks=330, max_tokens=4096, tenants=0))
    rejected = result.summary["outcomes"]["rejected"]
    assert 0 < rejected < 60
    assert result.summary["slo_attainment"] <= 1 - rejected / 60
    assert any(
        note.startswith(f"{rejected} of 60 requests rejected: needs KV") for note in result.notes
    )


def test_requests_that_are_all_too_long_are_an_error() -> None:
    with pytest.raises(DoesNotFitError, match=r"all 60 requests were rejected.*i0 holds 160"):
        run(SMALL.at(kv_blocks=10))


def test_a_class_that_no_request_has_is_noted(tmp_path: Path) -> None:
    trace = tmp_path / "t.jsonl"
    line = '{"arrival_s": %d, "prompt_tokens": 50, "output_tokens": 5, "slo_class": "chat"}\n'
    trace.write_text("".join(line % second for second in range(4)))
    result = run(Scenario(trace=str(trace), slo=("chat:ttft=1ns", "batch:e2e=1min")))
    assert result.notes == ("no request has SLO class batch",)
    assert result.summary["by_class"]["chat"]["slo_attainment"] == 0


def test_a_trace_follows_a_rate(tmp_path: Path) -> None:
    trace = tmp_path / "t.jsonl"
    line = '{"arrival_s": %d, "prompt_tokens": 50, "output_tokens": 5}\n'
    trace.write_text("".join(line % second for second in range(11)))
    natural = run(Scenario(trace=str(trace)))
    assert natural.summary["offered_rps"] == pytest.approx(1.1)
    fast = run(Scenario(trace=str(trace), rate_rps=55.0))
    assert fast.summary["offered_rps"] == pytest.approx(55)
    looped = run(Scenario(trace=str(trace), requests=33, loop=True))
    assert looped.summary["offered"] == 33


def test_sessions_find_their_prefixes_and_a_closed_loop_keeps_its_users() -> None:
    sessions = run(Scenario(sessions=True, requests=20, rate_rps=1.0))
    assert sessions.summary["prefix_cache_hit_rate"] > 0.2
    assert (
        run(Scenario(sessions=True, requests=20, rate_rps=1.0, prefix_cache=False)).summary[
            "prefix_cache_hit_rate"
        ]
        == 0
    )
    closed = run(Scenario(concurrency=4, requests=40))
    columns = closed.requests()
    begin, end = columns["arrival_ns"], columns["end_ns"]
    assert max(((begin <= time) & (time < end)).sum() for time in begin) == 4


@settings(max_examples=15)
@given(
    rate=st.floats(5, 80),
    instances=st.integers(1, 3),
    batching=st.sampled_from(("sarathi", "prefill_first", "splitfuse")),
    admission=st.sampled_from(("unbounded", "bounded_queue")),
    kv_blocks=st.sampled_from((None, 600, 1500)),
)
def test_every_offered_request_ends_once(
    rate: float, instances: int, batching: str, admission: str, kv_blocks: int | None
) -> None:
    options = {"admission.max_requests": 4} if admission == "bounded_queue" else {}
    scenario = SMALL.at(
        rate_rps=rate, instances=instances, batching=batching, admission=admission, kv_blocks=kv_blocks, options=options
    )  # fmt: skip
    summary = run(scenario).summary
    assert sum(summary["outcomes"].values()) == summary["offered"] == 60
    assert summary["outcomes"]["unfinished"] == 0
    assert summary["attained"] <= summary["completed"]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"model": "llama-3.1-9b"}, UnknownNameError, "llama-3.1-8b"),
        ({"gpu": "h1000"}, UnknownNameError, "h100"),
        ({"batching": "sarathy"}, UnknownNameError, "did you mean sarathi"),
        (
            {"model": "llama-3.1-70b"},
            DoesNotFitError,
            r"needs .* GB .* has .* GB .* tensor parallel 2",
        ),
        ({"tp": 3}, OptionError, "use 2 or 4"),
        ({"options": {"batching.token_bugdet": 1}}, UnknownNameError, "token_budget"),
        ({"options": {"vllm.budget": 1}}, UnknownNameError, "vllm"),
        ({"options": {"token_budget": 1}}, OptionError, "policy.option=value"),
        ({"slo": ("ttft=1",)}, OptionError, "ttft=1.*200ms"),
        ({"trace": "nowhere.csv", "tenants": 0}, HeadwayError, "nowhere.csv"),
        ({"memory_utilisation": 1.5}, OptionError, "1.5"),
        ({"precision": "fp7"}, UnknownNameError, "fp"),
    ],
)
def test_what_cannot_be_is_refused(
    change: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        run(SMALL.at(**change))


@pytest.mark.parametrize(
    "change",
    [
        {"rate_rps": -1.0},
        {"requests": 0},
        {"tp": 0},
        {"rate_scale": float("inf")},
        {"loop": True},
        {"concurrency": 3, "rate_rps": 3.0},
        {"trace": "t.csv", "cv": 2.0},
    ],
)
def test_impossible_scenarios_cannot_be_made(change: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        Scenario.of(change)


def test_a_misspelt_keyword_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="rate_rps"):
        headway.simulate(rate_rp=3)  # type: ignore[call-arg]


def test_pages_and_plots() -> None:
    pytest.importorskip("plotly")
    result = run(SMALL)
    assert "<html" in result.html()
    assert len(result.plot().data) == 4
