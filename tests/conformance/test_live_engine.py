"""Token identity in the live world: however a policy schedules it, a model says what it says alone."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import pytest

from headway.runtime import load_policy
from headway.testing import Run, Setup, SmallWorkload, run_live, small_workload
from headway.testing.policy_refs import PolicyRef

torch = pytest.importorskip("torch")
from headway.engine.kv_exchange import KvExchange  # noqa: E402 - needs torch
from headway.testing.tiny_model import VOCABULARY, tiny_executor  # noqa: E402 - needs torch

pytestmark = pytest.mark.slow
FOLDER = Path(__file__).parent / "toys"
BATCHINGS: list[PolicyRef] = ["sarathi", "prefill_first", "splitfuse", *sorted(FOLDER.glob("*.py"))]
TIGHT = 26  # blocks of 16 tokens, for requests of up to 180


def workload(*, streams: int = 0) -> SmallWorkload:
    drawn = small_workload(
        7,
        14,
        60.0,
        prompt_tokens=(5, 120),
        output_tokens=(4, 40),
        streams=streams,
        unit_tokens=0,  # this engine computes no input that arrives later
        prefixes=True,
        slack_tokens=0,  # a random model never stops before max_tokens
    )
    return drawn.with_prompt_ids(VOCABULARY)


def live(batching: PolicyRef, drawn: SmallWorkload, **fields: object) -> Run:
    setup = Setup(batching, step_tokens=512, **fields)  # type: ignore[arg-type]
    run = run_live(drawn, setup, executor=tiny_executor(setup.blocks))
    assert not run.stopped
    run.conserved()
    return run


@cache
def alone() -> dict[int, list[int]]:
    """What the model says to each request when it runs by itself, whole, with no cache."""
    ids: dict[int, list[int]] = {}
    for offer in workload().requests:
        run = live("prefill_first", SmallWorkload((offer,)), blocks=64, prefix_cache=False)
        ids |= run.log.ids
    assert sum(len(set(answer)) for answer in ids.values()) > 60, "answers worth comparing"
    return ids


def same(run: Run) -> None:
    for request_id, ids in run.log.ids.items():
        assert ids == alone()[request_id][: len(ids)], f"request {request_id} says something else"


@pytest.mark.parametrize("memory", ["recompute", "swap"])
@pytest.mark.parametrize("batching", BATCHINGS, ids=lambda b: getattr(b, "stem", b))
def test_tokens_are_those_of_each_request_alone(batching: PolicyRef, memory: str) -> None:
    run = live(batching, workload(), blocks=TIGHT, memory=memory, ordering="earliest_deadline")
    same(run)
    assert set(run.log.ends.values()) == {"finished"}


def test_memory_was_tight_enough_to_move_sequences() -> None:
    for memory in ("recompute", "swap"):
        run = live("sarathi", workload(), blocks=TIGHT, memory=memory)
        same(run)
        assert run.log.preemptions


def test_prefix_hits_change_no_token() -> None:
    run = live("sarathi", workload(), blocks=400)
    same(run)
    assert any(run.log.cached.values())


def test_aborts_in_real_time_change_no_token_of_others() -> None:
    drawn = workload()
    aborts = {n: drawn.requests[n].request.arrival_ns + n * 9_000_000 for n in range(1, 14, 2)}
    run = live("sarathi", SmallWorkload(drawn.requests, aborts), blocks=TIGHT, memory="swap")
    same(run)
    assert set(run.log.ends.values()) == {"finished", "aborted"}


@pytest.mark.parametrize("batching", ["sarathi", FOLDER / "overlap.py", FOLDER / "two_lanes.py"])
def test_streams_beside_chat_change_no_token(batching: PolicyRef) -> None:
    run = live(batching, workload(streams=3), blocks=60, ordering="earliest_deadline")
    same(run)


def test_interrupts_between_layers_happen_and_change_no_token() -> None:
    run = live(partial(_eager, FOLDER / "layer_interrupt.py"), workload(), blocks=200)
    same(run)
    assert run.log.interrupted


def _eager(path: Path) -> object:
    """Interrupts for anything that arrives."""
    policy = load_policy("batching", str(path))
    policy.on_event = lambda view: {"main": "layer"}
    return policy


@pytest.mark.parametrize("last_stage_blocks", [1, 16])
def test_migration_between_live_instances_changes_no_token(last_stage_blocks: int) -> None:
    exchange = KvExchange()
    drawn = workload()
    setup = Setup(
        "sarathi",
        blocks=200,
        instances=2,
        routing="round_robin",
        last_stage_blocks=last_stage_blocks,
    )

    def wander(fleet, clock):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        for n, offer in enumerate(drawn.requests):
            at = offer.request.arrival_ns + 20_000_000
            clock.call_at(at, partial(fleet.migrate, offer.request.id, f"i{1 - n % 2}"))
            clock.call_at(at + 30_000_000, partial(fleet.migrate, offer.request.id, f"i{n % 2}"))

    run = run_live(drawn, setup, executor=tiny_executor(200, exchange=exchange), on_start=wander)
    run.conserved()
    same(run)
    assert set(run.log.ends.values()) == {"finished"}


@pytest.mark.parametrize("memory", ["recompute", "swap"])
def test_prompts_computed_on_one_live_instance_and_decoded_on_another_change_no_token(
    memory: str,
) -> None:
    setup = Setup(
        "sarathi",
        memory=memory,
        blocks=40,
        instances=2,
        roles=("prefill", "decode"),
        routing="distserve",
    )
    run = run_live(workload(), setup, executor=tiny_executor(40, exchange=KvExchange()))
    run.conserved()
    same(run)
    assert set(run.log.ends.values()) == {"finished"}
    assert run.instances[1].steps
