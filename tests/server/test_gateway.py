"""Streams out of steps, and who is taken at all: over real host processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

pytest.importorskip("prometheus_client")

from headway.clocks.wall import WallClock
from headway.core import Slo
from headway.core.sampling import Sampling
from headway.host import HostSpec
from headway.host.port import HostError
from headway.records import read_run_log
from headway.runtime import load_policy
from headway.server.gateway import DRAINING, FleetGateway
from headway.server.revival import Revival
from headway.server.stream import (
    Overloaded,
    Piece,
    Prompt,
    ServedModel,
    Stream,
)

pytestmark = pytest.mark.slow

T = TypeVar("T")
BLOCK = 16
MODEL, DEVICE_BLOCKS = "smollm2-135m", 512


@asynccontextmanager
async def gateway_of(
    *,
    hosts: int = 1,
    admission: dict[str, Any] | None = None,
    routing: str = "least_work",
    **spec: Any,
) -> AsyncIterator[FleetGateway]:
    given: dict[str, Any] = {
        "model": MODEL,
        "world": "sim",
        "blocks": DEVICE_BLOCKS,
        "block_tokens": BLOCK,
    } | spec
    specs = [HostSpec(name=f"i{n}", **given) for n in range(hosts)]
    blocks = specs[0].blocks
    model = ServedModel("m", 0, blocks * BLOCK, 32_000, blocks, BLOCK, "sim")
    policies = (
        load_policy("admission", "bounded_queue", admission),
        load_policy("routing", routing),
    )
    clock = WallClock(asyncio.get_running_loop())
    gateway = FleetGateway(clock, model, specs, policies)
    try:
        await gateway.start()
        yield gateway
    finally:
        await gateway.close()


def within(seconds: float, use: Callable[[], Awaitable[T]]) -> T:
    async def run() -> T:
        return await asyncio.wait_for(use(), seconds)

    return asyncio.run(run())


def prompt(tokens: int, most: int = 8, *, first: int = 5, **options: Any) -> Prompt:
    return Prompt(tuple(range(first, first + tokens)), most, **options)


async def read(stream: Stream) -> list[Piece]:
    return [piece async for piece in stream]


async def settled(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Reports come ten times a second: wait until they say so."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a report changes it, in some callback
            await asyncio.sleep(0.01)


def metric(gateway: FleetGateway, name: str) -> float:
    """The sum of a metric's samples over labels."""
    lines = gateway.metrics.exposition().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.split("{")[0] == name)


def test_every_token_comes_in_order_and_the_last_piece_says_how_it_ended() -> None:
    async def use() -> None:
        async with gateway_of() as gateway:
            streams = [await gateway.submit(prompt(20 + n, 5 + n)) for n in range(20)]
            answers = await asyncio.gather(*map(read, streams))
            for n, pieces in enumerate(answers):
                assert sum(len(piece.ids) for piece in pieces) == 5 + n
                assert [piece.outcome for piece in pieces[-2:]] == ["", "finished"]
                times = [piece.time_ns for piece in pieces]
                assert times == sorted(times)
            assert gateway.load().running == 0
            assert gateway.totals.output_tokens == sum(5 + n for n in range(20))

    within(20, use)


def test_tokens_are_a_function_of_seed_and_position() -> None:
    async def answers(**spec: Any) -> list[list[int]]:
        async with gateway_of(**spec) as gateway:
            asked = [
                replace(prompt(30), sampling=Sampling(temperature=1.0, seed=seed))
                for seed in (1, 1, 2)
            ]
            streams = [await gateway.submit(one) for one in asked]
            return [
                [token for piece in pieces for token in piece.ids]
                for pieces in await asyncio.gather(*map(read, streams))
            ]

    one, other = within(20, answers), within(20, lambda: answers(batching="prefill_first", seed=7))
    assert one == other
    assert one[0] == one[1] != one[2]


def test_who_leaves_gives_the_blocks_back_within_a_step() -> None:
    async def use() -> None:
        async with gateway_of(blocks=64) as gateway:
            stream = await gateway.submit(prompt(500, 500))
            async for _ in stream:
                break
            stream.abort()
            await asyncio.wait_for(gateway.idle(), 5)
            # what is left would not hold this one, if the other's blocks were still taken
            pieces = await read(await gateway.submit(prompt(900, 4, first=2000)))
            assert pieces[-1].outcome == "finished"
            assert metric(gateway, "vllm:request_success_total") == 2

    within(20, use)


def test_a_reader_with_all_it_wants_is_no_failure() -> None:
    async def use() -> None:
        async with gateway_of() as gateway:
            slo = Slo("chat", ttft_ns=60_000_000_000)
            stream = await gateway.submit(prompt(20, 500, slo=slo))
            async for _ in stream:
                break
            stream.complete = True
            stream.abort()
            await gateway.idle()
            assert (gateway.totals.promised, gateway.totals.attained) == (1, 1)
            assert metric(gateway, "headway:slo_attained_total") == 1

    within(20, use)


def test_a_caller_that_is_cancelled_while_it_asks_leaves_nothing_behind() -> None:
    async def use() -> None:
        async with gateway_of() as gateway:
            asking = asyncio.ensure_future(gateway.submit(prompt(20, 500)))
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await asyncio.wait_for(gateway.idle(), 5)
            await settled(lambda: gateway.load().running == 0)

    within(20, use)


def test_the_queue_is_bounded_and_the_bound_is_known_before_anything_is_done() -> None:
    async def use() -> None:
        async with gateway_of(admission={"max_requests": 3}) as gateway:
            gateway.check(3, "")
            with pytest.raises(Overloaded):
                gateway.check(4, "")
            streams = [await gateway.submit(prompt(20, 200)) for _ in range(3)]
            with pytest.raises(Overloaded) as said:
                gateway.check(1, "")
            assert said.value.retry_after_s >= 1
            assert not said.value.draining
            with pytest.raises(Overloaded, match="3 requests are in the fleet"):
                await gateway.submit(prompt(20))
            for stream in streams:
                stream.abort()
            await gateway.idle()
            gateway.check(3, "")
            assert metric(gateway, "headway:shed_total") == 3

    within(20, use)


def test_what_can_never_fit_is_refused_by_the_instance_and_hurts_nobody() -> None:
    async def use() -> None:
        async with gateway_of(blocks=8) as gateway:
            with pytest.raises(Overloaded, match="needs KV for"):
                await gateway.submit(prompt(100, 1000))
            assert (await read(await gateway.submit(prompt(20))))[-1].outcome == "finished"

    within(20, use)


def test_a_prompt_that_came_before_is_not_computed_again_but_not_for_another_tenant() -> None:
    async def use(*, salted: bool) -> list[int]:
        async with gateway_of(salted=salted) as gateway:
            cached = []
            for tenant in ("a", "a", "b"):
                stream = await gateway.submit(prompt(10 * BLOCK + 3, tenant=tenant))
                cached.append((await read(stream))[0].cached_tokens)
            return cached

    assert within(20, lambda: use(salted=True)) == [0, 10 * BLOCK, 0]
    assert within(20, lambda: use(salted=False)) == [0, 10 * BLOCK, 10 * BLOCK]


def test_until_it_is_ready_and_once_it_drains_nobody_is_taken() -> None:
    async def use() -> None:
        async with gateway_of() as gateway:
            stream = await gateway.submit(prompt(20, 50))
            gateway.refuse()
            assert gateway.ready == DRAINING
            with pytest.raises(Overloaded) as said:
                gateway.check(1, "")
            assert said.value.draining
            with pytest.raises(Overloaded):
                await gateway.submit(prompt(20))
            assert (await read(stream))[-1].outcome == "finished"
            await asyncio.wait_for(gateway.idle(), 5)

    within(20, use)


def test_when_time_is_up_readers_are_told() -> None:
    async def use() -> None:
        async with gateway_of() as gateway:
            stream = await gateway.submit(prompt(20, 4000))
            gateway.refuse()
            gateway.end_streams("time is up")
            assert (await read(stream))[-1].outcome == "aborted: time is up"
            await asyncio.wait_for(gateway.idle(), 5)

    within(20, use)


def test_when_a_host_dies_its_requests_fail_and_the_server_is_not_ready() -> None:
    async def use() -> None:
        async with gateway_of() as gateway:
            heard: list[str] = []
            gateway.host_died = lambda spec, why: heard.append(spec.name + why)
            streams = [await gateway.submit(prompt(20, 4000)) for _ in range(3)]
            os.kill(gateway.pids[0], signal.SIGKILL)
            ends = [pieces[-1].outcome for pieces in await asyncio.gather(*map(read, streams))]
            assert all("has ended with code -9" in end for end in ends)
            assert "every host has stopped" in gateway.ready
            assert len(heard) == 1
            with pytest.raises(Overloaded):
                await gateway.submit(prompt(20))

    within(20, use)


def test_a_host_that_died_is_started_again_but_not_for_ever(tmp_path: Path) -> None:
    async def use() -> None:
        log = tmp_path / "run.jsonl"
        async with gateway_of(run_log=str(log)) as gateway:
            said: list[str] = []
            revival = Revival(gateway, said.append, most=2, pause_s=0.01)
            gateway.host_died = revival.died
            for life in range(1, 3):
                stream = await gateway.submit(prompt(20, 4000))
                os.kill(gateway.pids[0], signal.SIGKILL)
                assert (await read(stream))[-1].outcome.startswith("failed")
                await settled(lambda: not gateway.ready)
                assert (await read(await gateway.submit(prompt(20))))[-1].outcome == "finished"
                assert log.with_name(f"run.restart{life}.jsonl").exists()
                await settled(lambda: gateway.load().running == 0)
            os.kill(gateway.pids[0], signal.SIGKILL)
            await settled(lambda: "it stays down" in said[-1])
            assert gateway.ready
            await revival.stop()

    within(30, use)


def test_of_several_hosts_one_may_die() -> None:
    async def use() -> None:
        async with gateway_of(hosts=2) as gateway:
            os.kill(gateway.pids[0], signal.SIGKILL)
            await settled(lambda: len(gateway._fleet.view.instances) == 1)
            streams = [await gateway.submit(prompt(20)) for _ in range(4)]
            ends = {pieces[-1].outcome for pieces in await asyncio.gather(*map(read, streams))}
            assert ends == {"finished"}
            assert not gateway.ready

    within(20, use)


def test_a_policy_file_from_outside_decides_in_the_host(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from headway.core import StepPlan\n\n\n"
        "class Mine:\n"
        "    def plan(self, view):\n"
        "        works = view.take_prefills(tokens=7)\n"
        "        return StepPlan({'main': works or view.take_decodes()})\n"
    )
    log = tmp_path / "run.jsonl"

    async def use() -> None:
        async with gateway_of(batching=str(file), run_log=str(log)) as gateway:
            assert (await read(await gateway.submit(prompt(30))))[-1].outcome == "finished"

    within(20, use)
    assert max(work.tokens for step in read_run_log(log).steps for work in step.works) == 7


def test_a_broken_policy_says_so_to_its_requests(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("class Broken:\n    def plan(self, view):\n        raise ValueError('a bug')\n")

    async def use() -> None:
        async with gateway_of(batching=str(file)) as gateway:
            stream = await gateway.submit(prompt(30))
            assert (await read(stream))[-1].outcome.startswith("returned")
            await settled(lambda: bool(gateway.ready))
            assert "ValueError: a bug" in gateway.ready

    within(20, use)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"model": "no-such-model"}, "no-such-model"),
        ({"batching": "sarthi"}, "did you mean sarathi"),
        ({"run_log": "/no/such/folder/run.jsonl"}, "cannot write the run log"),
    ],
)
def test_a_host_that_cannot_start_says_why(spec: dict[str, Any], said: str) -> None:
    async def use() -> None:
        async with gateway_of(**spec):
            raise AssertionError("it started")

    with pytest.raises(HostError, match=said):
        within(20, use)


def test_the_simulated_world_and_the_gateway_load_no_torch() -> None:
    code = (
        "import sys, headway.host.mock, headway.server.lifecycle, headway.server.plan_service;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
