"""Two prompts share a hash exactly as far as they share whole blocks, and only within a tenant."""

from __future__ import annotations

from hypothesis import given, strategies as st

from headway.runtime.prefix_hash import PrefixHasher

IDS = st.lists(st.integers(0, 3), max_size=40)


@given(one=IDS, other=IDS, block=st.integers(1, 8))
def test_hashes_agree_exactly_as_far_as_whole_blocks_do(
    one: list[int], other: list[int], block: int
) -> None:
    hasher = PrefixHasher(b"k" * 16, block)
    mine, yours = hasher.extents(one, "t"), hasher.extents(other, "t")
    assert len(mine) == len(one) // block
    for n, (a, b) in enumerate(zip(mine, yours, strict=False), 1):
        assert (a == b) == (one[: n * block] == other[: n * block])
    assert all(0 <= value < 1 << 64 and tokens == block for value, tokens in mine)


@given(ids=st.lists(st.integers(0, 300_000), min_size=4, max_size=40))
def test_tenants_and_processes_share_nothing_unless_told(ids: list[int]) -> None:
    salted = PrefixHasher(b"a" * 16, 4)
    shared = PrefixHasher(b"a" * 16, 4, salted=False)
    elsewhere = PrefixHasher(b"b" * 16, 4)
    assert not set(salted.extents(ids, "x")) & set(salted.extents(ids, "y"))
    assert not set(salted.extents(ids, "x")) & set(elsewhere.extents(ids, "x"))
    assert shared.extents(ids, "x") == shared.extents(ids, "y")
