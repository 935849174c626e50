"""A host drafts when it is told to, and its policies predict with the profile it is given."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from headway.core import Request
from headway.host import HostSpec, LiveFleet
from headway.host.port import HostError
from headway.metrics import Recorder
from headway.records import read_run_log
from headway.runtime import load_policy
from headway.timing import Profile, save_profile

pytestmark = pytest.mark.slow

STEP_NS = 7_000_000
ASKS = """
from headway.core import StepPlan


class Asks:
    def plan(self, view):
        works = view.take_prefills(tokens=64) or view.take_decodes()
        if works and view.step_time_ns(works) != {step_ns}:
            raise ValueError("it predicts something else")
        return StepPlan({{"main": works}})
"""


def served(spec: HostSpec, requests: list[Request]) -> tuple[dict[int, list[int]], set[str]]:
    async def run() -> tuple[dict[int, list[int]], set[str]]:
        policies = (load_policy("admission", "unbounded"), load_policy("routing", "round_robin"))
        async with LiveFleet(spec, policies) as fleet:
            recorder = Recorder()
            run = await fleet.run(requests, recorder, on_offer=recorder.on_offer)
            return run.output_ids, set(run.outcomes.values())

    return asyncio.run(asyncio.wait_for(run(), 60))


def test_drafts_are_asked_for_and_change_no_token(tiny: Any, tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    spec = HostSpec(
        model=str(tiny.path),
        blocks=64,
        speculation="fixed",
        options={"fixed.tokens": "2"},
        run_log=str(log),
    )

    assert served(spec, tiny.requests)[0] == tiny.answers

    written = read_run_log(log)
    assert written.opened.policies["speculation"] == "fixed"
    assert any(work.draft_tokens for step in written.steps for work in step.works)


def profile_of(tmp_path: Path, layers: int) -> str:
    """Every step takes the same time."""
    file = tmp_path / "profile.toml"
    save_profile(Profile("tiny", "cpu", layers, STEP_NS), file)
    return str(file)


def test_a_live_policy_predicts_with_the_profile(tiny: Any, tmp_path: Path) -> None:
    policy = tmp_path / "asks.py"
    policy.write_text(ASKS.format(step_ns=STEP_NS))
    spec = HostSpec(
        model=str(tiny.path), blocks=64, batching=str(policy), profile=profile_of(tmp_path, 8)
    )

    assert served(spec, tiny.requests[:2])[1] == {"finished"}


def test_a_profile_of_another_model_is_refused(tiny: Any, tmp_path: Path) -> None:
    spec = HostSpec(model=str(tiny.path), blocks=64, profile=profile_of(tmp_path, 30))

    with pytest.raises(HostError, match="30 layers"):
        served(spec, tiny.requests[:1])
