"""INV-4, the laws of KV blocks: one owner each; free, held and evictable add up; nothing is lost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from headway.core import Request, Sequence
from headway.core.plan import Work
from headway.core.sequence import FINISHED
from headway.runtime.blocks import BlockPool
from headway.runtime.prefix_index import PrefixIndex, PrefixNode

TOTAL, SIZE = 40, 4
# Extents by content: equal prefixes are equal tuples, as hashes of all tokens up to the end would make them.
FAMILIES = [[(family * 10 + level, tokens) for level, tokens in enumerate(sizes)]
            for family, sizes in enumerate([(8, 8, 8), (5, 7, 4), (3, 1, 9)])]  # fmt: skip


def request(number: int, family: int, depth: int, tenant: str, own: int) -> Request:
    prefix = tuple(FAMILIES[family][:depth])
    tokens = sum(size for _, size in prefix) + own
    return Request(number, 0, tokens, 9, prefix=prefix, tenant=tenant, next_extent=1000 + number)


class Pool(RuleBasedStateMachine):
    """Sequences start on what is cached, grow, publish and give back in any order."""

    sequences = Bundle("sequences")

    def __init__(self) -> None:
        super().__init__()
        self.index = PrefixIndex()
        self.pool = BlockPool(TOTAL, SIZE, index=self.index)
        self.alive: list[Sequence] = []
        self.number = 0

    @rule(
        target=sequences,
        family=st.integers(0, 2),
        depth=st.integers(0, 3),
        tenant=st.sampled_from("ab"),
        own=st.integers(1, 20),
    )
    def start(self, family: int, depth: int, tenant: str, own: int) -> object:
        self.number += 1
        asked = request(self.number, family, depth, tenant, own)
        nodes = self.index.match(asked, SIZE)
        assert self.index.match(asked, SIZE) == nodes, "matching changes nothing"
        cached = nodes[-1].end_blocks if nodes else 0
        assert cached * SIZE < asked.prompt_tokens, "one token is left to compute"
        assert all(node.tenant == tenant for node in nodes), "tenants are kept apart"
        need = -(-asked.prompt_tokens // SIZE) - cached + self.index.unheld_blocks(nodes)
        if need > self.pool.free:
            return multiple()
        sequence = Sequence(asked)
        if nodes:
            self.pool.start(sequence, nodes)
            assert sequence.cached_tokens == cached * SIZE
        self.pool.grow(sequence, asked.prompt_tokens)
        self.alive.append(sequence)
        return sequence

    @rule(sequence=sequences, tokens=st.integers(1, 30))
    def grow(self, sequence: Sequence, tokens: int) -> None:
        reached = sequence.computed_tokens + tokens
        if sequence in self.alive and self.pool.missing(sequence, reached) <= self.pool.free:
            self.pool.grow(sequence, reached)
            sequence.computed_tokens = reached
            assert sequence.capacity_tokens >= reached
            assert not self.pool.missing(sequence, reached)

    @rule(sequence=sequences, ended=st.booleans())
    def publish(self, sequence: Sequence, *, ended: bool) -> None:
        if sequence in self.alive:
            before = self.pool.free
            blocks = len(sequence.blocks)
            self.pool.publish(sequence, ended=ended)
            assert len(sequence.blocks) == blocks
            assert self.pool.free >= before, "sharing frees duplicates and takes nothing"

    @rule(sequence=sequences, leased=st.booleans())
    def give_back(self, sequence: Sequence, *, leased: bool) -> None:
        if sequence not in self.alive:
            return
        self.alive.remove(sequence)
        before, private = self.pool.free, self.pool.private_blocks(sequence)
        if leased:
            sequence.leases, sequence.state = 1, FINISHED
            self.pool.give_back(sequence)
            assert sequence.blocks, "a lease outlives the sequence"
            assert self.pool.free == before
            self.pool.end_lease(sequence)
        else:
            self.pool.give_back(sequence)
        assert self.pool.free == before + private
        assert not sequence.blocks

    @invariant()
    def every_block_has_one_owner(self) -> None:
        nodes = [node for table in self.index._nodes.values() for node in table.values()]
        owned = [block for node in nodes for block in node.blocks]
        for sequence in self.alive:
            shared = sum(len(node.blocks) for node in held(sequence))
            owned += sequence.blocks[shared:]
        used = len(owned)
        owned += [*self.pool._recycled, *range(self.pool._fresh, TOTAL)]
        assert sorted(owned) == list(range(TOTAL))
        assert self.pool.free == TOTAL - used + self.index.evictable_blocks

    @invariant()
    def held_and_evictable_are_the_cached(self) -> None:
        nodes = [node for table in self.index._nodes.values() for node in table.values()]
        assert self.index.evictable_blocks == sum(len(n.blocks) for n in nodes if not n.holders)
        assert self.index.held_blocks == sum(len(n.blocks) for n in nodes if n.holders)

    @invariant()
    def no_extent_outlives_the_one_it_continues(self) -> None:
        for tenant, table in self.index._nodes.items():
            for family in FAMILIES:
                known = [extent in table for extent, _ in family]
                assert known == sorted(known, reverse=True), (tenant, family, known)


def held(sequence: Sequence) -> list[PrefixNode]:
    return [node for node in sequence.nodes if isinstance(node, PrefixNode)]


TestPool = Pool.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=40)


def finished(pool: BlockPool, asked: Request, tokens: int) -> Sequence:
    """A sequence that computed its prompt and ended."""
    sequence = Sequence(asked)
    nodes = pool.index.match(asked, SIZE) if pool.index else []
    if nodes:
        pool.start(sequence, nodes)
    pool.grow(sequence, tokens)
    sequence.computed_tokens = tokens
    pool.publish(sequence, ended=True)
    pool.give_back(sequence)
    return sequence


def test_eviction_is_least_recently_used_first() -> None:
    index = PrefixIndex()
    pool = BlockPool(8, SIZE, index=index)
    old, young = request(1, 0, 1, "", 1), request(2, 1, 1, "", 1)
    finished(pool, old, 9)
    finished(pool, young, 6)
    finished(pool, request(3, 0, 1, "", 1), 9)  # touches the older one again
    greedy = Sequence(Request(9, 0, 24, 4))
    pool.grow(greedy, 24)  # one block more than was never used
    assert index.match(old, SIZE)
    assert not index.match(young, SIZE)


def test_the_next_turn_continues_prompt_and_output() -> None:
    pool = BlockPool(40, SIZE, index=PrefixIndex())
    finished(pool, request(1, 0, 1, "", 4), 20)
    turn = Request(2, 0, 30, 4, prefix=((0, 8), (1001, 12)))
    assert pool.index is not None
    first, second = pool.index.match(turn, SIZE)
    assert (first.end_blocks, second.end_blocks) == (2, 5)


def test_equal_prefixes_computed_side_by_side_become_one() -> None:
    pool = BlockPool(40, SIZE, index=PrefixIndex())
    pair = [Sequence(request(n, 0, 2, "", 3)) for n in (1, 2)]
    for sequence in pair:
        pool.grow(sequence, 19)
        sequence.computed_tokens = 19
    assert pool.free == 30
    for sequence in pair:
        pool.publish(sequence)
    assert pool.free == 34
    assert pair[0].blocks[:4] == pair[1].blocks[:4]
    for sequence in pair:
        pool.give_back(sequence)
    assert pool.free == 40


def test_publishing_waits_for_the_last_lease() -> None:
    pool = BlockPool(40, SIZE, index=PrefixIndex())
    sequence = Sequence(request(1, 0, 1, "", 1))
    pool.grow(sequence, 9)
    sequence.computed_tokens, sequence.leases = 9, 1
    pool.publish(sequence)
    assert pool.index is not None
    assert not pool.index.match(sequence.request, SIZE)


@pytest.mark.parametrize(("salted", "hits"), [(True, 0), (False, 1)])
def test_tenants_share_a_prefix_only_without_salt(*, salted: bool, hits: int) -> None:
    pool = BlockPool(40, SIZE, index=PrefixIndex(salted=salted))
    finished(pool, request(1, 0, 1, "a", 1), 9)
    assert pool.index is not None
    assert len(pool.index.match(request(2, 0, 1, "b", 1), SIZE)) == hits


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), min_size=1, max_size=6),
    st.integers(20, 80),
    st.integers(1, 60),
)
def test_repeats_until_full_is_the_most_that_fit(
    sizes: list[tuple[int, int]], total: int, cap: int
) -> None:
    """Compared with growing step by step."""

    def build() -> tuple[BlockPool, list[Work]] | None:
        pool, works = BlockPool(total, SIZE), []
        for number, (computed, tokens) in enumerate(sizes):
            sequence = Sequence(Request(number, 0, 500, 1))
            sequence.computed_tokens = computed
            if pool.missing(sequence, computed + tokens) > pool.free:
                return None
            pool.grow(sequence, computed + tokens)
            works.append(Work(sequence, tokens))
        return pool, works

    built = build()
    if built is None:
        return
    pool, works = built
    found = pool.repeats_until_full(works, sum(work.tokens for work in works), cap)
    assert 1 <= found <= cap
    fitting = 1
    for repeat in range(2, cap + 1):
        need = sum(
            pool.missing(w.sequence, w.sequence.computed_tokens + repeat * w.tokens) for w in works
        )
        if need > pool.free:
            break
        fitting = repeat
    assert found == fitting
