"""Replays: a run under its own step times is itself; a live run's decisions are taken again; what-ifs add up."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from headway.api import Change, Parts, Scenario, run as simulate
from headway.api.decision_replay import replay_decisions
from headway.api.judgement import METRICS, judge
from headway.api.replay import faster, measured_log, replay
from headway.api.what_if import whatif
from headway.core import NS_PER_MS, Request, Sequence, Step, StepResult
from headway.core.fleet import FINISHED_OK
from headway.errors import OptionError, UnknownNameError, WorkloadError
from headway.host import HostSpec, LiveFleet
from headway.host.spec import SIM, SimSpec
from headway.records import RunLog, read_run_log
from headway.runtime import load_policy
from headway.timing import Scattered, save_profile
from headway.workload import Listed, Offered

from .logged_runs import some_requests, write_log
from .test_calibration import TRUTH


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 1000),
    batching=st.sampled_from(["sarathi", "prefill_first", "splitfuse"]),
    ordering=st.sampled_from(["fcfs", "shortest_prompt", "earliest_deadline"]),
    blocks=st.sampled_from([64, 90, 2000]),
    delay_ms=st.integers(0, 3),
)
def test_a_replay_under_its_own_step_times_is_the_run(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    batching: str,
    ordering: str,
    blocks: int,
    delay_ms: int,
) -> None:
    path = tmp_path_factory.mktemp("log") / "run.jsonl"
    requests = some_requests(25, seed=seed, gap_ms=15, prefixes=seed % 2 == 0)
    options = {"batching.token_budget": "128"} if batching == "sarathi" else {}
    ear = write_log(
        path, TRUTH, requests, batching=batching, ordering=ordering, options=options,
        blocks=blocks, delay_ns=delay_ms * NS_PER_MS,
    )  # fmt: skip
    log = read_run_log(path)
    assert replay_decisions(log, timing=TRUTH).whole  # splitfuse asks for predictions
    run = measured_log(log)
    assert run.times == ear.times
    assert replay(run.cases, run.setting, TRUTH) == ear.times


def test_a_log_is_judged_as_the_recorder_judges(tmp_path: Path) -> None:
    requests = some_requests(40)
    write_log(tmp_path / "run.jsonl", TRUTH, requests)
    run = measured_log(read_run_log(tmp_path / "run.jsonl"))
    mine = judge(run.cases, run.times).metrics()
    described = Scenario(model="gemma-3-270m", gpu="cpu", kv_blocks=400)
    offers = Listed(Offered(request, output) for request, output in requests)
    told = simulate(described, Parts(TRUTH, offers)).summary
    for name in METRICS:
        rough = "itl" in name  # from a histogram there
        assert mine[name] == pytest.approx(told[name], rel=0.02 if rough else 1e-5), name


def test_the_first_difference_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    write_log(path, TRUTH, some_requests(20))
    log = read_run_log(path)
    other = replace_policy(log, "prefill_first")
    found = replay_decisions(other)
    assert not found.whole and 0 < found.agreed < found.steps
    assert f"step {found.agreed + 1} " in found.difference and "request" in found.difference
    with pytest.raises(WorkloadError, match="no step"):
        replay_decisions(RunLog(log.opened))


def replace_policy(log: RunLog, batching: str) -> RunLog:
    policies = {**log.opened.policies, "batching": batching}
    opened = msgspec.structs.replace(log.opened, policies=policies)
    return replace(log, opened=opened)


def test_requests_whose_clients_gave_up_load_the_machine_and_are_not_judged(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    requests = some_requests(20)
    slow = max(range(20), key=lambda n: requests[n][1])
    at = requests[slow][0].arrival_ns + 100 * NS_PER_MS
    ear = write_log(path, TRUTH, requests, aborts={slow: at})
    assert ear.outcomes[slow] != FINISHED_OK
    log = read_run_log(path)
    assert replay_decisions(log).whole
    run = measured_log(log)
    case = next(case for case in run.cases if case.request.id == slow)
    assert not case.judged
    assert case.output_tokens == max(1, len(ear.times.get(slow, ())))
    assert len(judge(run.cases, run.times).ttft_ns) == 19
    assert any("gave up" in note for note in run.notes)


def test_decisions_of_a_host_in_real_time_are_taken_again(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    spec = HostSpec(
        model="gemma-3-270m",
        world=SIM,
        sim=SimSpec(gpu="a10"),
        options={"sarathi.token_budget": "64"},
        blocks=60,
        run_log=str(path),
    )
    requests = [
        Request(n, n * 4 * NS_PER_MS, 20 + 11 * n, 30, prompt_ids=tuple(range(3, 23 + 11 * n)))
        for n in range(30)
    ]

    class Deaf:
        def on_tokens(self, step: Step, result: StepResult) -> None: ...
        def on_end(
            self, request: Request, sequence: Sequence | None, outcome: str, now_ns: int
        ) -> None: ...

    async def serve() -> None:
        policies = (load_policy("admission", "unbounded"), load_policy("routing", "round_robin"))
        async with LiveFleet(spec, policies) as fleet:
            await fleet.run(requests, Deaf())

    asyncio.run(asyncio.wait_for(serve(), 60))
    found = replay_decisions(read_run_log(path))
    assert found.whole, str(found)
    assert found.steps > 40


def test_a_what_if_of_the_same_policies_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    write_log(path, Scattered(TRUTH, [0.9, 1.0, 1.1]), some_requests(50))
    told = whatif(path, Change(policies={"batching": "sarathi"}), draws=3)
    assert told.change == ["batching sarathi"]
    for name in METRICS:
        assert told.changed[name] == told.replayed[name]
        assert told.difference[name].low == told.difference[name].high == 0
        assert told.replayed[name].low <= told.replayed[name].value <= told.replayed[name].high
    assert abs(told.error["p50_tpot_ms"]) < 0.05


def test_intervals_of_differences_are_narrower_than_those_of_values(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    write_log(path, Scattered(TRUTH, [0.7, 1.0, 1.3]), some_requests(80, gap_ms=50), blocks=2000)
    told = whatif(path, Change(options={"sarathi.token_budget": "2048"}), draws=8)
    new, change = told.changed["p50_e2el_ms"], told.difference["p50_e2el_ms"]
    assert change.high - change.low < (new.high - new.low) / new.value


def test_what_a_run_would_have_been_elsewhere_and_with_more_instances(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    write_log(path, TRUTH, some_requests(40, gap_ms=8))
    two = whatif(path, Change(instances=2), draws=2)
    assert two.difference["p99_ttft_ms"].value < -0.2
    h100 = whatif(path, Change(gpu="h100"), draws=2)
    assert h100.difference["p50_tpot_ms"].value < -0.5
    assert any("not measured" in note for note in h100.notes)
    crowd = whatif(path, Change(rate_scale=0.1), draws=2)
    assert crowd.difference["p99_ttft_ms"].value < 0
    with pytest.raises(UnknownNameError, match="device"):
        whatif(path, Change(gpu="abacus"), draws=2)
    with pytest.raises(UnknownNameError, match="batching"):
        whatif(path, Change(policies={"batching": "sarahti"}), draws=2)
    with pytest.raises(OptionError, match="draws"):
        whatif(path, draws=1)


def test_a_device_without_a_sheet_cannot_be_compared(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    write_log(path, TRUTH, some_requests(20), device="homemade")
    with pytest.raises(OptionError, match="homemade"):
        whatif(path, Change(gpu="h100"), draws=2)


def test_a_what_if_prints_itself(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    path = tmp_path / "run.jsonl"
    write_log(path, TRUTH, some_requests(30))
    save_profile(TRUTH, tmp_path / "p.toml")
    told = whatif(
        path,
        Change(policies={"ordering": "shortest_prompt"}),
        slo=("ttft=1s,e2e=2s",),
        profile=tmp_path / "p.toml",
        draws=2,
    )
    table = told.table(140)
    assert "measured" in table and "interval" in table and "shortest_prompt" in table
    document = msgspec.json.decode(told.json())
    assert set(document["metrics"]) == set(METRICS)
    assert document["metrics"]["p50_ttft_ms"]["error"] == pytest.approx(0, abs=1e-6)
    assert "<table" in told.html()
    same = whatif(path, draws=2)
    assert not same.changed and "nothing was changed" in same.table()


def test_requests_that_come_faster_keep_their_order_and_their_way() -> None:
    made = faster(measured_log(_log_of(some_requests(9))).cases, 3.0)
    assert [case.request.id for case in made] == list(range(9))
    assert all(case.entered_ns - case.request.arrival_ns == 5 for case in made)


def _log_of(requests: list[tuple[Request, int]]) -> RunLog:
    from headway.records import Ended, Opened, Submitted

    log = RunLog(Opened("m", "d", "x", 1, 9, 16, {}))
    for request, output in requests:
        at = request.arrival_ns
        log.submitted.append(Submitted(request.id, at + 5, at, 3, 200, request.slo))
        log.ended.append(Ended(request.id, at + 9, FINISHED_OK, output))
    return log
