"""Token identity in the live world: however a policy schedules it, a model says what it says alone."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest

from headway.core import Request
from headway.core.plan import KEEP, SWAP_IN, SWAP_OUT, Transfer
from headway.core.sequence import Sequence
from headway.policies.memory.fastswitch import FastSwitch
from headway.policies.memory.swap_blocks import SwapBlocks
from headway.policies.ordering.rotating_priority import RotatingPriority
from headway.runtime import load_policy
from headway.testing import Run, Setup, SmallWorkload, run_live, small_workload
from headway.testing.policy_refs import PolicyRef
from headway.workload import Offered

torch = pytest.importorskip("torch")
from headway.engine.executor import TorchExecutor  # noqa: E402 - needs torch
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


@pytest.mark.parametrize("speculation", ["smartspec", "fixed"])
@pytest.mark.parametrize("memory", ["recompute", "fastswitch"])
def test_drafts_change_no_token(speculation: str, memory: str) -> None:
    run = live("sarathi", workload(), blocks=TIGHT, speculation=speculation, memory=memory)
    same(run)
    assert set(run.log.ends.values()) == {"finished"}


def test_lanes_with_shares_change_no_token() -> None:
    run = live("semi_pd", workload(), blocks=TIGHT, memory="swap")
    same(run)
    assert set(run.log.ends.values()) == {"finished"}


# -- conversations: KV that waits on the host for the next turn ------------------------------------------------------

TURNS, NEW = 3, 9  # turns of each, tokens that a later one adds
SECOND = 1 << 20  # ids of turn n begin at n times this


class Conversations(SmallWorkload):
    """Every turn continues prompt and answer of the one before; the answers are known."""

    def on_end(self, request: Request, outcome: str, now_ns: int) -> tuple[Offered, ...]:
        del outcome
        turn = request.id // SECOND + 1
        if turn >= TURNS:
            return ()
        answer = conversations()[1][request.id]
        return (Offered(following(request, answer, now_ns + 1_000_000), 12),)


def following(request: Request, answer: tuple[int, ...], at_ns: int) -> Request:
    fresh = tuple(3 + (request.id * 31 + n * 7) % (VOCABULARY - 3) for n in range(NEW))
    assert request.prompt_ids is not None
    assert request.next_extent is not None
    prompt = (*request.prompt_ids, *answer, *fresh)
    asked = request.next_extent + 1
    return Request(
        request.id + SECOND,
        at_ns,
        len(prompt),
        12,
        session=request.id % SECOND,
        prefix=(*request.prefix, (request.next_extent, len(answer)), (asked, NEW)),
        next_extent=asked + 1,
        prompt_ids=prompt,
    )


def said(request: Request) -> tuple[int, ...]:
    """The answer of a request that runs by itself."""
    bare = replace(request, arrival_ns=0, prefix=(), next_extent=None)
    run = live(
        "prefill_first",
        SmallWorkload((Offered(bare, request.max_tokens),)),
        blocks=64,
        prefix_cache=False,
    )
    return tuple(run.log.ids[request.id])


@cache
def conversations() -> tuple[tuple[Offered, ...], dict[int, tuple[int, ...]]]:
    """First turns, and the answers of all."""
    first, answers = [], {}
    for n in range(6):
        ids = tuple(3 + (n * 101 + k * k * 13) % (VOCABULARY - 3) for k in range(40 + 9 * n))
        request = Request(
            n,
            n * 2_000_000,
            len(ids),
            25,
            session=n,
            prefix=(((n + 1) << 32, len(ids)),),
            next_extent=((n + 1) << 32) + 1,
            prompt_ids=ids,
        )
        first.append(Offered(request, 25))
        for _ in range(TURNS):
            answers[request.id] = said(request)
            request = following(request, answers[request.id], 0)
    return tuple(first), answers


@pytest.mark.parametrize(
    ("batching", "memory"),
    [
        ("sarathi", FastSwitch),
        ("sarathi", partial(FastSwitch, asynchronous_from=1, group_blocks=2)),
        ("sarathi", partial(FastSwitch, kept_blocks=12)),
        ("sarathi", SwapBlocks),
        ("prefill_first", FastSwitch),
        (FOLDER / "overlap.py", FastSwitch),
    ],
    ids=["fastswitch", "asynchronous", "little_kept", "swap_blocks", "prefill_first", "overlap"],
)
def test_copies_on_the_host_change_no_token(
    batching: PolicyRef, memory: PolicyRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, answers = conversations()
    moved: list[Transfer] = []
    transfer, adopt, adopted = TorchExecutor.transfer, TorchExecutor.adopt_copy, list[int]()

    def noted(self: TorchExecutor, what: Transfer, on_done: object) -> None:
        moved.append(what)
        transfer(self, what, on_done)  # type: ignore[arg-type]

    def noted_too(self: TorchExecutor, from_id: int, to: Sequence, tokens: int) -> bool:
        adopted.append(to.id)
        return adopt(self, from_id, to, tokens)

    monkeypatch.setattr(TorchExecutor, "transfer", noted)
    monkeypatch.setattr(TorchExecutor, "adopt_copy", noted_too)
    run = live(
        batching,
        Conversations(first),
        blocks=18,
        memory=memory,
        ordering=partial(RotatingPriority, update_frequency=0.4),
    )
    assert {n: tuple(ids) for n, ids in run.log.ids.items()} == answers
    assert set(run.log.ends.values()) == {"finished"}
    assert {SWAP_OUT, SWAP_IN} <= {what.kind for what in moved}
    if (batching, memory) == ("sarathi", FastSwitch):
        assert KEEP in {what.kind for what in moved}
        assert adopted, "a turn started from the host"
        assert any(what.kind == SWAP_OUT and what.first for what in moved), "copies were added to"
