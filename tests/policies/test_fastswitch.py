"""FastSwitch: who goes first runs, moving others costs little, and what the host holds is not moved again."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import pytest

from headway.core import Request, Sequence, Step, StepResult
from headway.core.plan import DONE, KEEP, SWAP_IN, SWAP_OUT, Transfer
from headway.errors import OptionError
from headway.policies.memory.fastswitch import FastSwitch
from headway.policies.ordering.rotating_priority import RotatingPriority
from headway.sim import Timed
from headway.testing import Run, Setup, SmallWorkload, StepTimes, run_sim, small_workload
from headway.workload import Offered

MS = 1_000_000
TURN = 1 << 20


class Favours:
    """Request 9 goes first, then who came first."""

    dynamic = False
    preempts = True

    def key(self, sequence: Sequence) -> tuple[float, ...]:
        return float(sequence.id != 9), sequence.request.arrival_ns, sequence.id


def favoured(memory: Any, ordering: Any = Favours, **changes: Any) -> Run:
    """Six that fill the pool; after a second somebody comes who goes before them all."""
    offers = [Offered(Request(n, n, 300, 200), 200) for n in range(6)]
    offers.append(Offered(Request(9, 1000 * MS, 400, 20), 20))
    setup = Setup(memory=memory, ordering=ordering, blocks=160, **changes)
    run = run_sim(SmallWorkload(tuple(offers)), setup)
    run.conserved()
    return run


def ttft_ms(run: Run, request_id: int, arrival_ns: int = 1000 * MS) -> float:
    return (run.log.times_ns[request_id][0] - arrival_ns) / MS


class Seen(NamedTuple):
    """A transfer, and the tokens whose KV its sequence had when it began."""

    kind: str
    id: int
    first: int
    blocks: int
    tokens: int


@pytest.fixture
def transfers(monkeypatch: pytest.MonkeyPatch) -> list[Seen]:
    seen: list[Seen] = []
    original = Timed.transfer

    def transfer(self: Timed, moved: Transfer, on_done: Any) -> None:
        sequence = moved.sequence
        tokens = sequence.computed_tokens
        seen.append(Seen(moved.kind, sequence.id, moved.first, moved.blocks, tokens))
        original(self, moved, on_done)

    monkeypatch.setattr(Timed, "transfer", transfer)
    return seen


@pytest.mark.parametrize("memory", ["fastswitch", "swap_blocks", "swap", "recompute"])
def test_who_goes_first_takes_the_room_of_who_runs(memory: str) -> None:
    before, patient = favoured(memory), favoured(memory, "fcfs")
    assert ttft_ms(before, 9) < 120 < ttft_ms(patient, 9) / 3
    assert before.log.preemptions


def test_without_preempting_orderings_nobody_is_moved_for_who_waits() -> None:
    class Polite(Favours):
        preempts = False

    assert ttft_ms(favoured("fastswitch", Polite), 9) > 300


def test_with_memory_for_everyone_it_changes_nothing() -> None:
    """The null: no preemption, nothing moved, equal times."""
    workload = small_workload(4, 40, 30.0, prefixes=True, turns=1)
    runs = [
        run_sim(workload, Setup(memory=memory, ordering="rotating_priority"))
        for memory in ("fastswitch", "swap_blocks", "recompute")
    ]
    assert runs[0].log.tokens == runs[1].log.tokens == runs[2].log.tokens
    assert not runs[0].log.preemptions
    assert not runs[0].instances[0].moves.moved_blocks


def test_lanes_wait_for_synchronous_swaps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow link FastSwitch begins steps while KV moves, and the baseline does not."""
    under_way, begun = 0, Counter[bool]()
    execute, transfer = Timed.execute, Timed.transfer

    def counted(self: Timed, step: Step, on_done: Any) -> Any:
        begun[under_way > 0] += 1
        return execute(self, step, on_done)

    def noted(self: Timed, moved: Transfer, on_done: Any) -> None:
        nonlocal under_way
        under_way += 1

        def landed() -> None:
            nonlocal under_way
            under_way -= 1
            on_done()

        transfer(self, moved, landed)

    monkeypatch.setattr(Timed, "execute", counted)
    monkeypatch.setattr(Timed, "transfer", noted)
    slow = StepTimes(block_ns=5 * MS)
    favoured(lambda: FastSwitch(asynchronous_from=1), timing=slow)
    assert begun[True] > 5
    begun.clear()
    run = favoured("swap_blocks", timing=slow)
    assert run.instances[0].moves.moved_blocks
    assert begun[True] == 0 < begun[False]


def test_extents_pay_a_launch_each() -> None:
    """With nothing but launches to pay for, block by block takes as many times longer as extents have blocks."""
    launches = StepTimes(block_ns=0, extent_ns=2 * MS)
    one_by_one = favoured("swap_blocks", timing=launches)
    grouped = favoured(lambda: FastSwitch(asynchronous_from=1 << 30), timing=launches)
    assert ttft_ms(grouped, 9) < ttft_ms(one_by_one, 9) / 1.5


def test_what_the_host_has_is_not_moved_again(transfers: list[Seen]) -> None:
    """Of a sequence that goes out again, blocks move that were not full when it went out last, and no others."""
    workload = small_workload(2, 40, 40.0, prompt_tokens=(100, 900), output_tokens=(40, 60))
    setup = Setup(memory="fastswitch", ordering="rotating_priority", blocks=200)
    run_sim(workload, setup).conserved()
    full: dict[int, int] = {}  # blocks that are on the host and will not change
    again = 0
    for moved in transfers:
        assert moved.first + moved.blocks == -(-moved.tokens // setup.block_tokens)
        if moved.kind == SWAP_OUT:
            assert moved.first == full.get(moved.id, 0)
            again += moved.first > 0
            full[moved.id] = moved.tokens // setup.block_tokens
        elif moved.kind == SWAP_IN:
            assert moved.first == 0, "all of it comes back"
    assert again > 5


def test_a_turn_starts_from_the_host(transfers: list[Seen]) -> None:
    """The first turn's KV is pushed out of the prefix cache; the next turn brings it back from the host."""
    first = Request(0, 0, 640, 40, prefix=((5, 640),), next_extent=6, session=1)
    others = [Offered(Request(n, 300 * MS, 700, 60), 60) for n in range(1, 5)]
    workload = SmallWorkload((Offered(first, 40), *others), turns=1)

    def run(memory: Any) -> Run:
        # Two turns fit at a time: what others need evicts what the first turn left.
        run = run_sim(workload, Setup(memory=memory, blocks=100))
        run.conserved()
        return run

    kept, dropped = run("fastswitch"), run(lambda: FastSwitch(keeps_turns=False))
    kinds = Counter(moved.kind for moved in transfers if moved.id in (0, TURN))
    assert kinds[KEEP] == 1
    assert kinds[SWAP_IN] == 1
    assert kept.log.computed[TURN] < 100 < dropped.log.computed[TURN]


def test_kept_turns_give_way(transfers: list[Seen]) -> None:
    """The host's room for copies is limited; the oldest go, and nobody else's turn is taken for one's own."""
    workload = small_workload(3, 40, 20.0, prefixes=True, turns=2, tenants=2)
    run = run_sim(workload, Setup(memory=lambda: FastSwitch(kept_blocks=60), blocks=130))
    run.conserved()
    copies = run.instances[0].moves.copies
    assert copies
    assert 0 <= copies.held <= 60
    assert any(moved.kind == KEEP for moved in transfers)


def test_priorities_are_drawn_by_user_and_update_alone() -> None:
    def keys(policy: RotatingPriority, order: range) -> dict[int, tuple[float, ...]]:
        return {n: policy.key(Sequence(Request(n, 0, 5, 5))) for n in order}

    one, other = RotatingPriority(), RotatingPriority()
    assert keys(one, range(50)) == keys(other, range(49, -1, -1))
    step, landed = Step(0, "main", ()), StepResult(DONE, (), [0] * 25)
    before = keys(one, range(50))
    one.on_step(step, landed._replace(ends_ns=[0] * 24))
    assert keys(one, range(50)) == before
    one.on_step(step, landed._replace(ends_ns=[0]))
    other.on_step(step, landed)  # a leap counts its steps
    after = keys(one, range(50))
    assert after == keys(other, range(50))
    assert all(after[n] != before[n] for n in range(50))
    assert RotatingPriority(seed=1).key(Sequence(Request(0, 0, 5, 5))) != before[0]


def test_turns_of_a_session_share_a_priority_and_markov_keeps_most() -> None:
    policy = RotatingPriority("markov", update_frequency=1.0, stay=0.8)
    sequences = [Sequence(Request(n, 0, 5, 5)) for n in range(200)]
    turns = [Sequence(Request(500 + n, 0, 5, 5, session=7)) for n in range(2)]
    assert policy.key(turns[0])[0] == policy.key(turns[1])[0]
    kept = updates = 0
    for _ in range(20):
        before = [policy.key(each)[0] for each in sequences]
        policy.on_step(Step(0, "main", ()), StepResult(DONE, (), [0]))
        after = [policy.key(each)[0] for each in sequences]
        kept += sum(a == b for a, b in zip(before, after, strict=True))
        updates += len(sequences)
    assert 0.77 < kept / updates < 0.83


def test_an_unknown_pattern_is_refused() -> None:
    with pytest.raises(OptionError, match="use random or markov"):
        RotatingPriority("round")
