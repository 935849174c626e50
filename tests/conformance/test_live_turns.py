"""Conversations as a server has them: prompts named block by block, and nobody knows whether another turn follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from headway.core import Request
from headway.core.fleet import ABORTED, FINISHED_OK
from headway.core.plan import KEEP, Step, StepResult, Transfer
from headway.core.protocols import Clock
from headway.core.sequence import Sequence
from headway.policies.memory.fastswitch import FastSwitch
from headway.runtime.prefix_hash import PrefixHasher
from headway.testing import Run, Setup, SmallWorkload, run_live
from headway.testing.policy_refs import PolicyRef
from headway.workload import Offered

pytest.importorskip("torch")
from headway.engine.executor import TorchExecutor, TorchStepHandle
from headway.testing.tiny_model import VOCABULARY, tiny_executor, tiny_model

BLOCK, OUTPUT = 8, 20
HASHER = PrefixHasher(b"k" * 16, BLOCK)
CHATS, TURNS, LATER = 4, 3, 1 << 10  # ids from a turn to the next
MS = 1_000_000
FOLDER = Path(__file__).parent / "toys"
Ids = tuple[int, ...]
Adopted = tuple[int, int, bool]


def words(seed: int, count: int) -> Ids:
    return tuple(3 + (seed * 101 + k * k * 13 + k) % (VOCABULARY - 3) for k in range(count))


def asked(number: int, ids: Ids, at_ns: int = 0, **options: Any) -> Request:
    """As the server asks: no `next_extent`, and a hash for each whole block."""
    prefix = HASHER.extents(ids, options.get("tenant", ""))
    return Request(number, at_ns, len(ids), OUTPUT, prefix=prefix, prompt_ids=ids, **options)


@cache
def answer(ids: Ids) -> Ids:
    """What the model says when nothing is reused."""
    bare = Request(0, 0, len(ids), OUTPUT, prompt_ids=ids)
    setup = Setup("prefill_first", blocks=64, block_tokens=BLOCK, prefix_cache=False)
    run = run_live(
        SmallWorkload((Offered(bare, OUTPUT),)), setup, executor=tiny_executor(64, BLOCK)
    )
    return tuple(run.log.ids[0])


@dataclass(frozen=True)
class Talk(SmallWorkload):
    """Turn after turn, each once the one before has ended."""

    prompts: dict[int, Ids] = field(default_factory=dict)
    options: dict[int, dict[str, Any]] = field(default_factory=dict)

    def on_end(self, request: Request, outcome: str, now_ns: int) -> tuple[Offered, ...]:
        del outcome
        number = request.id + LATER
        if number not in self.prompts:
            return ()
        options = self.options.get(number, self.options.get(number % LATER, {}))
        return (Offered(asked(number, self.prompts[number], now_ns + MS, **options), OUTPUT),)


def conversations(count: int = CHATS, turns: int = TURNS) -> dict[int, Ids]:
    """Every turn continues prompt and answer of the one before."""
    prompts = {}
    for n in range(count):
        ids = words(n, 33 + 7 * n)
        for turn in range(turns):
            prompts[n + turn * LATER] = ids
            ids = (*ids, *answer(ids), *words(n * 7 + turn, 9))
    return prompts


def run(
    prompts: dict[int, Ids],
    options: dict[int, dict[str, Any]] | None = None,
    *,
    aborts: dict[int, int] | None = None,
    executor: Callable[..., TorchExecutor] | None = None,
    most: int = OUTPUT,
    **changes: Any,
) -> Run:
    """Everybody is a session of its own, unless told. `most` is what a first turn may say."""
    given: dict[str, Any] = {"memory": FastSwitch, "names": HASHER.answer} | changes
    setup = Setup(block_tokens=BLOCK, **given)
    sessions = options or {n: {"session": n} for n in range(CHATS)}
    first = [
        replace(asked(n, ids, n * 2 * MS, **sessions.get(n, {})), max_tokens=most)
        for n, ids in prompts.items()
        if n < LATER
    ]
    offers = tuple(Offered(request, most) for request in first)
    workload = Talk(offers, aborts or {}, prompts=prompts, options=sessions)
    ran = run_live(workload, setup, executor=executor or tiny_executor(setup.blocks, BLOCK))
    ran.conserved()
    return ran


def same(ran: Run, prompts: dict[int, Ids], but: Seq[int] = ()) -> None:
    """Every token is the one that is said when nothing is reused."""
    for n, ids in prompts.items():
        if n not in but:
            assert ran.log.ends[n] == FINISHED_OK
            assert tuple(ran.log.ids[n]) == answer(ids), f"request {n}"


@pytest.fixture
def adopted(monkeypatch: pytest.MonkeyPatch) -> list[Adopted]:
    """Request, tokens that it goes on with, and whether the copy was good."""
    seen: list[Adopted] = []
    original = TorchExecutor.adopt_copy

    def noted(self: TorchExecutor, from_id: int, to: Sequence, tokens: int) -> bool:
        good = original(self, from_id, to, tokens)
        seen.append((to.id, tokens, good))
        return good

    monkeypatch.setattr(TorchExecutor, "adopt_copy", noted)
    return seen


@pytest.mark.parametrize("batching", ["sarathi", FOLDER / "overlap.py"], ids=["one", "two ahead"])
def test_a_turn_starts_behind_the_answer_before_it(batching: PolicyRef) -> None:
    """With room for everybody the prefix cache has whole blocks of each answer."""
    prompts = conversations()
    ran = run(prompts, batching=batching, memory="recompute", blocks=400)
    same(ran, prompts)
    for n in prompts:
        before = prompts.get(n - LATER)
        told = len(before) + OUTPUT - 1 if before else 0  # the last token's KV was never computed
        assert ran.log.cached[n] == told // BLOCK * BLOCK
    unnamed = run(prompts, memory="recompute", blocks=400, names=None)
    assert sum(ran.log.computed.values()) < sum(unnamed.log.computed.values())


@pytest.mark.parametrize("memory", [FastSwitch, partial(FastSwitch, asynchronous_from=1)])
def test_little_memory_and_copies_change_no_token(
    memory: PolicyRef, adopted: list[Adopted]
) -> None:
    prompts = conversations()
    ran = run(prompts, memory=memory, blocks=20)
    same(ran, prompts)
    assert any(good for _, _, good in adopted), "a turn started from the host"
    assert all(good for _, _, good in adopted)


def test_the_host_gives_a_session_its_last_turn_back(adopted: list[Adopted]) -> None:
    prompts = conversations()
    ran = run(prompts, prefix_cache=False, blocks=400)
    same(ran, prompts)
    told = {
        n: (len(prompts[n - LATER]) + OUTPUT - 1) // BLOCK * BLOCK for n in prompts if n >= LATER
    }
    assert {n: tokens for n, tokens, good in adopted if good} == told
    assert {n: cached for n, cached in ran.log.cached.items() if n >= LATER} == told
    copies = ran.instances[0].moves.copies
    assert copies
    assert len(copies._turns) == CHATS, "one copy of each conversation"


@pytest.mark.parametrize("cached", [True, False], ids=["device", "host"])
@pytest.mark.parametrize("at", [0, 9, OUTPUT - 2])
def test_an_answer_that_comes_back_with_other_tokens_is_used_up_to_there(
    at: int, adopted: list[Adopted], *, cached: bool
) -> None:
    prompts = conversations(1, 1)
    told = list(answer(prompts[0]))
    told[at] = 3 + (told[at] - 2) % (VOCABULARY - 3)
    prompts[LATER] = (*prompts[0], *told, *words(5, 9))
    ran = run(prompts, prefix_cache=cached, blocks=64)
    same(ran, prompts)
    assert ran.log.cached[LATER] == (len(prompts[0]) + at) // BLOCK * BLOCK
    assert bool(adopted) != cached


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ({"session": 7}, {"session": 7}, True),
        ({"session": 7, "tenant": "a"}, {"session": 7, "tenant": "b"}, False),
        ({"session": 7, "tenant": "a"}, {"session": 8, "tenant": "a"}, False),
        ({"session": 7}, {}, False),
        ({}, {"session": 7}, False),
    ],
)
def test_a_copy_is_of_one_session_of_one_tenant(
    one: dict[str, Any], other: dict[str, Any], adopted: list[Adopted], *, shared: bool
) -> None:
    prompts = conversations(1, 2)
    ran = run(prompts, {0: one, LATER: other}, prefix_cache=False, blocks=64)
    same(ran, prompts)
    assert bool(adopted) == shared
    assert bool(ran.log.cached[LATER]) == shared


def test_the_cache_keeps_tenants_apart() -> None:
    prompts = conversations(1, 2)
    options = {0: {"tenant": "a"}, LATER: {"tenant": "b"}}
    ran = run(prompts, options, memory="recompute", blocks=64)
    same(ran, prompts)
    assert ran.log.cached[LATER] == 0


@pytest.mark.parametrize("cached", [True, False], ids=["device", "host"])
def test_after_a_turn_that_was_given_up_the_next_one_works(
    adopted: list[Adopted], *, cached: bool
) -> None:
    prompts = conversations(1, 1)
    prompts[LATER] = (*prompts[0], *answer(prompts[0])[:5], *words(5, 9))
    prompts[2 * LATER] = (*prompts[LATER], *answer(prompts[LATER]), *words(6, 9))
    ran = run(prompts, aborts={0: 15 * MS}, most=400, prefix_cache=cached, blocks=100)
    assert ran.log.ends[0] == ABORTED
    same(ran, prompts, but=[0])
    assert [n for n, _, _ in adopted] == ([] if cached else [2 * LATER])


class Breaks(TorchExecutor):
    """Whatever it is to keep of a turn comes to nothing."""

    def transfer(self, transfer: Transfer, on_done: Callable[[], None]) -> None:
        if transfer.kind == KEEP:
            self._books.entry(transfer.sequence).broken = "somebody's numbers"
        super().transfer(transfer, on_done)


def test_a_turn_after_a_broken_copy_is_computed(adopted: list[Adopted]) -> None:
    prompts = conversations(2)

    def breaks(clock: Clock, lengths: object) -> TorchExecutor:
        del lengths
        return Breaks(clock, tiny_model(), blocks=64, block_tokens=BLOCK, threads=1)

    ran = run(prompts, prefix_cache=False, blocks=64, executor=breaks)
    same(ran, prompts)
    assert sorted(n for n, _, good in adopted if not good) == sorted(
        n for n in prompts if n >= LATER
    )
    assert not any(ran.log.cached.values())


class Fails(TorchExecutor):
    """The first turn's request breaks in the middle of its answer."""

    def execute(self, step: Step, on_done: Callable[[StepResult], None]) -> TorchStepHandle:
        for work in step.work:
            if work.sequence.id == 0 and work.sequence.output_tokens == OUTPUT // 2:
                self._books.entry(work.sequence).fail("somebody's numbers")
        return super().execute(step, on_done)


@pytest.mark.parametrize("cached", [True, False], ids=["device", "host"])
def test_of_a_turn_that_failed_nothing_is_left_to_the_next(
    adopted: list[Adopted], *, cached: bool
) -> None:
    prompts = conversations(1, 2)

    def fails(clock: Clock, lengths: object) -> TorchExecutor:
        del lengths
        return Fails(clock, tiny_model(), blocks=64, block_tokens=BLOCK, threads=1)

    ran = run(prompts, prefix_cache=cached, blocks=64, executor=fails)
    assert "somebody's numbers" in ran.log.ends[0]
    same(ran, prompts, but=[0])
    assert not adopted
    whole = len(prompts[0]) // BLOCK * BLOCK  # of the prompt: computed and published before
    assert ran.log.cached[LATER] == (whole if cached else 0)


@pytest.mark.parametrize("kept", [0, 8, 30])
def test_copies_stay_within_their_budget(kept: int) -> None:
    prompts = conversations()
    ran = run(prompts, memory=partial(FastSwitch, kept_blocks=kept), prefix_cache=False, blocks=64)
    same(ran, prompts)
    copies = ran.instances[0].moves.copies
    executor = ran.instances[0].executor
    assert isinstance(executor, TorchExecutor)
    held = sum(copy.bytes for copy in executor._host._copies.values())
    block = executor._pool._keys[:, :1].nbytes * 2
    assert held == (copies.held if copies else 0) * block
    assert held <= kept * block
    assert (held > 0) == (kept > 8)
