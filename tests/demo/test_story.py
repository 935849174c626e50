"""The demo on servers without a model: the same verbs and the same story, in seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from headway.core import NS_PER_MS
from headway.demo.live_server import ServerError, serving
from headway.demo.mixed_load import Promises, Wave, decode_step_ms
from headway.demo.outcome import ROWS, page, table, verdict
from headway.demo.story import MOST_KEPT, Ground, play
from headway.demo.ways import PLAIN, TUNED_ON, Overload, candidates
from headway.records import read_run_log
from headway.timing import Pieces, Profile, load_profile, save_profile

SIMULATED = ("--world=sim", "--gpu=cpu", "--model=gemma-3-270m")
SHORT = ((Wave(3, 1, (4, 8)), Wave(6, 6, (8, 12))), (Wave(4, 4, (8, 12)),))
MACHINE = Profile(
    model="gemma-3-270m",
    device="cpu",
    layers=18,
    base_ns=20e6,
    decodes=Pieces((8,), (1e6, 3e6)),
    tokens=Pieces((), (5e5,)),
    blocks=1024,
)


def test_the_story_from_the_first_server_to_the_table(tmp_path: Path) -> None:
    said: list[str] = []
    ground = Ground(
        tmp_path,
        lambda *_: None,
        SIMULATED,
        warm_up=Wave(3, 3, (2, 3)),
        waves=SHORT,
        seconds=(1.5, 1.5),
    )
    plan, outcomes = play(ground, said.append)

    before, after = outcomes
    assert before.way == PLAIN
    assert before.attained[0] <= MOST_KEPT < after.attained[0]
    offered = sum(1 for _ in plan.work.offers())
    for outcome in outcomes:
        assert outcome.measured.summary["offered"] == offered
        assert outcome.measured.summary["completed"] == offered
        assert outcome.pace
    assert (
        30
        <= load_profile(ground.profile).steps
        <= sum(
            len(_steps_between(ground.log(name), first, last))
            for name, first, last in (("calibration", 3, 12), ("before", 3, 7))
        )
    )
    for name in ("calibration", "before", "after"):  # nobody finds another's prompt in the cache
        ended = read_run_log(ground.log(name)).ended
        assert {line.cached_tokens for line in ended} == {0}
    assert after.way.text in said[-1]
    assert table(outcomes, plan.title).row_count == len(ROWS)
    assert plan.title in page(outcomes, plan.title)

    summary = before.forecast["summary"] | {"slo_attainment": before.attained[1] + 0.3}
    off = replace(before, forecast={**before.forecast, "summary": summary}, pace=1.3)
    near = replace(before, forecast={**before.forecast, "summary": before.measured.summary}, pace=1)
    judged = [line for line in verdict([off, near]) if "the forecast was" in line]
    assert [("BADLY OFF" in line, "1.30" in line) for line in judged] == [
        (True, True),
        (False, False),
    ]
    assert "NOT A FAIR" in " ".join(verdict([off, near]))
    assert "NOT A FAIR" not in " ".join(verdict([near, near]))
    assert "gained nothing" in " ".join(verdict([near, near]))


def _steps_between(log: Path, first: int, last: int) -> list[int]:
    """Starts of the steps after the first requests had ended, up to the end of the last ones."""
    run = read_run_log(log)
    ended = {line.id: line.now_ns for line in run.ended}
    low, high = (max(ended[line.id] for line in run.submitted[:count]) for count in (first, last))
    return [step.start_ns for step in run.steps if low <= step.start_ns < high]


def test_the_overload_is_one_whatever_arrivals_are_drawn_and_hardly_more(tmp_path: Path) -> None:
    profile = tmp_path / "profile.toml"
    save_profile(MACHINE, profile)
    promises = Promises.for_step(decode_step_ms(MACHINE))
    load = Overload(promises, 10.0, profile)
    rate = load.rate(PLAIN, 0.5, TUNED_ON, lambda _: None)
    assert all(load.kept(PLAIN, rate, seed)[0] <= 0.5 for seed in TUNED_ON)
    assert any(load.kept(PLAIN, 0.9 * rate, seed)[0] > 0.5 for seed in TUNED_ON)

    ways = candidates(decode_step_ms(MACHINE))["sarathi"]
    kept, best = load.best(ways, rate)
    assert best in ways
    assert kept == max(load.best([way], rate)[0] for way in ways)
    assert kept > load.best([PLAIN], rate)[0]


def test_promises_grow_with_the_machines_step() -> None:
    slow, fast = Promises.for_step(80.0), Promises.for_step(40.0)
    assert slow.chat.ttft_ns == 2 * (fast.chat.ttft_ns or 0) == 25 * 80 * NS_PER_MS
    assert "chat: TTFT 1,000 ms, TPOT 240 ms" in fast.text()


def test_a_server_that_refuses_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerError, match="no_such_policy"),
        serving([*SIMULATED, "--batching=no_such_policy"], tmp_path / "run.jsonl"),
    ):
        pytest.fail("it must not be ready")
