"""A host with a draft model says the same; with its own weights as the draft model, in fewer steps."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headway.core import Request, Sequence, Step, Work
from headway.host import HostSpec, LiveFleet
from headway.host.sim_world import timing_of
from headway.host.spec import SIM
from headway.metrics import Recorder
from headway.records import read_run_log
from headway.runtime import load_policy

tiny_files = pytest.importorskip("headway.testing.tiny_files")

pytestmark = pytest.mark.slow


def output_of(spec: HostSpec, requests: list[Request]) -> dict[int, list[int]]:
    async def run() -> dict[int, list[int]]:
        policies = (load_policy("admission", "unbounded"), load_policy("routing", "round_robin"))
        async with LiveFleet(spec, policies) as fleet:
            recorder = Recorder()
            return (await fleet.run(requests, recorder, on_offer=recorder.on_offer)).output_ids

    return asyncio.run(asyncio.wait_for(run(), 60))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other weights, the same vocabulary."""
    shape = tiny_files.TinyShape(num_hidden_layers=4, hidden_size=32)
    path: Path = tiny_files.save_tiny_gemma(tmp_path_factory.mktemp("other"), shape, seed=12)
    return path


def emitted(log: Path) -> tuple[int, int]:
    """Decode works of a log, and the tokens that came out of them."""
    works = [
        work for step in read_run_log(log).steps for work in step.works if work.draft_tokens > 0
    ]
    return len(works), sum(work.emitted for work in works)


@pytest.mark.parametrize(
    ("memory", "blocks", "own"),
    [
        ("recompute", 9, True),  # less than the six need together
        ("swap", 9, True),
        ("recompute", 64, False),
    ],
)
def test_a_draft_model_changes_no_token(
    tiny: Any, stranger: Path, tmp_path: Path, memory: str, blocks: int, own: bool
) -> None:
    log = tmp_path / "run.jsonl"
    spec = HostSpec(
        model=str(tiny.path),
        blocks=blocks,
        memory=memory,
        speculation="fixed",
        draft_model=str(tiny.path if own else stranger),
        run_log=str(log),
    )

    assert output_of(spec, tiny.requests) == tiny.answers

    works, tokens = emitted(log)
    if own:
        assert tokens > 2.5 * works  # 4, but where an output or a block ends
    else:
        assert tokens < 1.2 * works


def test_smartspec_drafts_with_a_model_and_starts_on_cached_prefixes(
    tiny: Any, tmp_path: Path
) -> None:
    log = tmp_path / "run.jsonl"
    spec = HostSpec(
        model=str(tiny.path),
        blocks=64,
        speculation="smartspec",
        draft_model=str(tiny.path),
        run_log=str(log),
    )
    longest = max(tiny.requests, key=lambda request: request.prompt_tokens)
    prefix = ((1, 48), (2, 12))
    twice = [
        replace(longest, id=n, arrival_ns=n * 400_000_000, prefix=prefix, next_extent=3)
        for n in range(2)
    ]

    assert output_of(spec, twice) == dict.fromkeys((0, 1), tiny.answers[longest.id])

    written = read_run_log(log)
    assert [ended.cached_tokens > 0 for ended in written.ended] == [False, True]
    works, tokens = emitted(log)
    assert tokens > 1.5 * works


def test_a_simulated_draft_model_takes_its_time() -> None:
    spec = HostSpec(model="llama-3.1-8b", world=SIM, speculation="fixed")
    sequence = Sequence(Request(0, 0, 100, 100))
    step = Step(0, "main", [Work(sequence, 4, None, 3)])
    sequence.computed_tokens = 99

    _, _, free = timing_of(spec)
    _, _, priced = timing_of(msgspec.structs.replace(spec, draft_model="llama-3.2-1b"))

    assert priced.durations_ns(step, 1)[0] > free.durations_ns(step, 1)[0]
