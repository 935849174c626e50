"""A host is a real process with a real model behind a real socket."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from headway.core import Request
from headway.host import HostSpec, LiveFleet
from headway.host.port import HostError
from headway.metrics import Recorder, summarise
from headway.runtime import load_policy

T = TypeVar("T")

pytestmark = pytest.mark.slow


def with_fleet(spec: HostSpec, use: Callable[[LiveFleet], Awaitable[T]]) -> T:
    async def run() -> T:
        policies = (load_policy("admission", "unbounded"), load_policy("routing", "round_robin"))
        async with LiveFleet(spec, policies) as fleet:
            return await use(fleet)

    return asyncio.run(asyncio.wait_for(run(), 60))


def spec_of(tiny: Any, **options: Any) -> HostSpec:
    return HostSpec(model=str(tiny.path), blocks=64, **options)


@pytest.mark.parametrize(
    ("batching", "memory", "blocks"),
    [
        ("sarathi", "recompute", 64),
        ("prefill_first", "recompute", 64),
        ("sarathi", "swap", 9),  # less than the six need together
        ("sarathi", "recompute", 9),
    ],
)
def test_tokens_are_those_of_transformers(
    tiny: Any, batching: str, memory: str, blocks: int
) -> None:
    options = {"sarathi.token_budget": "16"}
    spec = HostSpec(
        model=str(tiny.path), batching=batching, memory=memory, options=options, blocks=blocks
    )
    recorder = Recorder()

    async def use(fleet: LiveFleet) -> dict[int, list[int]]:
        run = await fleet.run(tiny.requests, recorder, on_offer=recorder.on_offer)
        return run.output_ids

    assert with_fleet(spec, use) == tiny.answers
    summary = summarise(recorder)
    assert summary["completed"] == len(tiny.requests)
    assert summary["total_output_tokens"] == sum(map(len, tiny.answers.values()))


def test_a_policy_file_from_outside_serves_unedited(tiny: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from headway.core import StepPlan\n\n\n"
        "class Mine:\n"
        "    def plan(self, view):\n"
        "        works = view.take_prefills(tokens=8)\n"
        "        return StepPlan({'main': works or view.take_decodes()})\n"
    )

    async def use(fleet: LiveFleet) -> dict[int, list[int]]:
        return (await fleet.run(tiny.requests, Deaf())).output_ids

    assert with_fleet(spec_of(tiny, batching=str(file)), use) == tiny.answers


class Deaf:
    """A sink that keeps nothing."""

    def on_tokens(self, step: object, result: object) -> None:
        pass

    def on_end(self, request: object, sequence: object, outcome: object, now_ns: int) -> None:
        pass


def test_a_policy_that_raises_returns_its_requests_and_the_host_drains(
    tiny: Any, tmp_path: Path
) -> None:
    file = tmp_path / "broken.py"
    file.write_text("class Broken:\n    def plan(self, view):\n        raise ValueError('a bug')\n")

    async def use(fleet: LiveFleet) -> dict[int, str]:
        return (await fleet.run(tiny.requests, Deaf())).outcomes

    outcomes = with_fleet(spec_of(tiny, batching=str(file)), use)
    assert set(outcomes) == {request.id for request in tiny.requests}
    assert outcomes[0] == "returned"
    assert all(
        outcome == "returned" or "Broken: plan() raised ValueError: a bug" in outcome
        for outcome in outcomes.values()
    )


def test_when_the_host_dies_every_request_ends_and_says_so(tiny: Any) -> None:
    long = [Request(100 + n, 0, 3, 500, prompt_ids=(2, 5, 7), tenant=str(n)) for n in range(3)]

    async def use(fleet: LiveFleet) -> dict[int, str]:
        running = asyncio.ensure_future(fleet.run(long, Deaf()))
        await asyncio.sleep(0.3)
        os.kill(fleet.host_pid, signal.SIGKILL)
        return (await running).outcomes

    async def run() -> dict[int, str]:
        policies = (load_policy("admission", "unbounded"), load_policy("routing", "round_robin"))
        fleet = LiveFleet(HostSpec(model=str(tiny.path), blocks=256), policies)
        async with fleet:
            return await use(fleet)

    outcomes = asyncio.run(asyncio.wait_for(run(), 60))
    assert len(outcomes) == len(long)
    assert all("has ended with code -9" in outcome for outcome in outcomes.values())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "/no/such/model"}, "is no model"),
        ({"batching": "sarthi"}, "did you mean sarathi"),
        ({"options": {"sarathi.token_bugdet": "3"}}, "did you mean token_budget"),
    ],
)
def test_a_host_that_cannot_start_says_why(tiny: Any, options: dict[str, Any], said: str) -> None:
    every: dict[str, Any] = {"model": str(tiny.path), "blocks": 64} | options
    spec = HostSpec(**every)

    async def use(fleet: LiveFleet) -> None:
        raise AssertionError(f"it started: {fleet.ready}")

    with pytest.raises(HostError, match=said):
        with_fleet(spec, use)


def test_the_parent_imports_no_torch() -> None:
    code = "import sys, headway.host; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
