"""KV in extents: one owner each, nothing lost, and pieces that stay large where plain blocks scatter."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from headway.core import Request, Sequence
from headway.runtime.blocks import BlockPool
from headway.runtime.extents import ExtentPool, extents_of, pool_of
from headway.runtime.prefix_index import PrefixIndex
from headway.testing import Setup, run_sim, small_workload

SIZE, TOTAL = 4, 96

Moves = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 60)), max_size=60)


def sequence(number: int, prompt_tokens: int = 4000) -> Sequence:
    return Sequence(Request(number, 0, prompt_tokens, 9))


@given(Moves, st.integers(2, 40))
@settings(max_examples=60)
def test_every_block_has_one_owner(moves: list[tuple[int, int]], group: int) -> None:
    """0 tokens give back; anything else grows by so many, if that fits."""
    pool = ExtentPool(TOTAL, SIZE, group_blocks=group)
    alive = [sequence(n) for n in range(6)]
    for number, tokens in moves:
        one = alive[number]
        reached = one.capacity_tokens + tokens
        if not tokens:
            pool.give_back(one)
        elif pool.missing(one, reached) <= pool.free:
            pool.grow(one, reached)
            assert one.capacity_tokens == len(one.blocks) * SIZE >= reached
        owned = [block for each in alive for block in each.blocks]
        assert sorted([*owned, *pool.unused()]) == list(range(TOTAL))
        assert pool.free == TOTAL - len(owned), "what is reserved for somebody is free"


def test_a_reserve_is_split_before_anything_fails() -> None:
    pool = ExtentPool(TOTAL, SIZE, group_blocks=32)
    holders = [sequence(n) for n in range(3)]
    for each in holders:
        pool.grow(each, SIZE)  # a block each, and 31 in reserve
    assert pool.free_extents == 0
    late = sequence(9)
    pool.grow(late, SIZE * (TOTAL - 3))
    assert pool.free == 0 == len(pool.unused())
    assert [len(each.blocks) for each in holders] == [1, 1, 1]


def test_blocks_given_back_join_their_neighbours() -> None:
    pool = ExtentPool(TOTAL, SIZE, group_blocks=8)
    some = [sequence(n) for n in range(12)]
    for each in some:
        pool.grow(each, SIZE * 8)
    for each in Random(1).sample(some, len(some)):
        pool.give_back(each)
    assert pool.free_extents == 1
    assert pool.free == TOTAL


def test_evicts_prefixes_when_nothing_else_is_free() -> None:
    index = PrefixIndex()
    pool = ExtentPool(8, SIZE, index=index, group_blocks=4)
    first = Sequence(Request(0, 0, 16, 4, prefix=((7, 16),)))
    pool.grow(first, 16)
    first.computed_tokens = 16
    pool.publish(first)
    pool.give_back(first)
    assert (pool.free, index.evictable_blocks) == (8, 4)
    second = sequence(1)
    pool.grow(second, 8 * SIZE)
    assert sorted(second.blocks) == list(range(8))
    assert index.evictable_blocks == 0


def _mean_extent(pool: BlockPool, seed: int = 3) -> float:
    """Twelve sequences grow side by side, and who ends makes place for another: the end state's mean extent."""
    rng, alive = Random(seed), [sequence(n) for n in range(12)]
    for number in range(2000):
        n = rng.randrange(len(alive))
        one = alive[n]
        if len(one.blocks) > 60 or pool.free < 4:
            pool.give_back(one)
            alive[n] = sequence(1000 + number)
        elif one.blocks:
            pool.grow(one, one.capacity_tokens + SIZE)
        else:
            pool.grow(one, SIZE * rng.randint(5, 40))
    blocks = sum(len(each.blocks) for each in alive)
    return blocks / sum(extents_of(each.blocks) for each in alive)


def test_extents_stay_longer_than_what_plain_blocks_scatter_into() -> None:
    plain, grouped = (
        _mean_extent(pool_of(600, SIZE, None, 1)),
        _mean_extent(pool_of(600, SIZE, None, 32)),
    )
    assert grouped > 3 * plain
    assert grouped > 8


def test_extents_of_a_table() -> None:
    assert extents_of([]) == 0
    assert extents_of([4]) == 1
    assert extents_of([4, 5, 6, 9, 10, 3]) == 3


@pytest.mark.parametrize("seed", range(3))
def test_conserves_under_pressure_and_reports_its_extents(seed: int) -> None:
    """Audited after every step: prefixes, turns, aborts and streams in a pool that hardly holds two."""
    workload = small_workload(
        seed, 40, 12.0, streams=3, abort_share=0.2, prefixes=True, turns=1, tenants=2
    )
    setup = Setup(memory="fastswitch", ordering="rotating_priority", blocks=130)
    run = run_sim(workload, setup)
    run.conserved()
    moves = run.instances[0].moves
    assert moves.moved_extents < moves.moved_blocks / 3, "mean extent"
