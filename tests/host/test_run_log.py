"""What a host writes down adds up to what it did."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

import pytest

from headway.core import Request
from headway.host import HostSpec, LiveFleet
from headway.records import RunLog, read_run_log
from headway.runtime import load_policy

pytestmark = pytest.mark.slow


class Deaf:
    """A sink that keeps nothing."""

    def on_tokens(self, step: object, result: object) -> None:
        pass

    def on_end(self, request: object, sequence: object, outcome: object, now_ns: int) -> None:
        pass


def logged(spec: HostSpec, requests: list[Request]) -> RunLog:
    async def run() -> None:
        policies = (load_policy("admission", "unbounded"), load_policy("routing", "round_robin"))
        async with LiveFleet(spec, policies) as fleet:
            await fleet.run(requests, Deaf())

    asyncio.run(asyncio.wait_for(run(), 60))
    return read_run_log(Path(spec.run_log))


def requests_of(count: int, tokens: int = 50, most: int = 12) -> list[Request]:
    ids = tuple(range(3, 3 + tokens))
    return [
        Request(n, n * 2_000_000, tokens + n, most, prompt_ids=ids + ids[:n]) for n in range(count)
    ]


def adds_up(log: RunLog) -> None:
    """Contexts follow from tokens, tokens from requests, and every lane does one thing at a time."""
    asked = {line.id: line for line in log.submitted}
    ended = {line.id: line for line in log.ended}
    assert set(asked) == set(ended)
    computed: dict[int, int] = defaultdict(int)
    emitted: dict[int, int] = defaultdict(int)
    lane_end_ns: dict[str, int] = defaultdict(int)
    for step in log.steps:
        assert lane_end_ns[step.lane] <= step.start_ns <= step.end_ns
        assert "plan" in step.parts_ns
        lane_end_ns[step.lane] = step.end_ns
        for work in step.works:
            assert work.context in (computed[work.id], 0, ended[work.id].cached_tokens)
            computed[work.id] = work.context + work.tokens
            emitted[work.id] += work.emitted
            assert asked[work.id].now_ns <= step.start_ns <= ended[work.id].now_ns
    for request_id, end in ended.items():
        request = asked[request_id]
        assert request.arrival_ns <= request.now_ns
        assert end.outcome == "finished"
        assert end.output_tokens == emitted[request_id] == request.max_tokens
        # the last token is given out without having been computed on
        assert computed[request_id] == request.prompt_tokens + request.max_tokens - 1


@pytest.mark.parametrize("blocks", [256, 18])  # all fit; some are put back and start again
def test_a_simulated_host_writes_all_it_does(tmp_path: Path, blocks: int) -> None:
    spec = HostSpec(
        model="smollm2-135m",
        world="sim",
        blocks=blocks,
        options={"sarathi.token_budget": "64"},
        run_log=str(tmp_path / "run.jsonl"),
    )
    log = logged(spec, requests_of(12))
    adds_up(log)
    assert (log.opened.blocks, log.opened.policies["batching"]) == (blocks, "sarathi")
    preempted = sum(line.preemptions for line in log.ended)
    assert bool(preempted) == (blocks == 18)


def test_a_live_host_writes_all_it_does(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    tiny_files = pytest.importorskip("headway.testing.tiny_files")
    path = tiny_files.save_tiny_gemma(tmp_path / "tiny")
    spec = HostSpec(
        model=str(path), blocks=64, ignore_eos=True, run_log=str(tmp_path / "run.jsonl")
    )
    log = logged(spec, requests_of(4, tokens=20))
    adds_up(log)
    assert (log.opened.device, log.opened.dtype) == ("cpu", "float32")
    assert set(log.steps[0].parts_ns) > {"plan"}  # and what the executor spent its time on
