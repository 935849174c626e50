"""All-reduce algorithms: which wins where, and what none can beat."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from headway.timing import load_link
from headway.timing.collectives import (
    all_gather_ns,
    all_reduce_ns,
    one_shot_all_reduce_ns,
    ring_all_reduce_ns,
    tree_all_reduce_ns,
    two_shot_all_reduce_ns,
)

NVLINK = load_link("nvlink4")


def test_one_rank_needs_no_messages() -> None:
    assert all_reduce_ns(NVLINK, 1, 1e9) == all_gather_ns(NVLINK, 1, 1e9) == 0


@given(ranks=st.integers(2, 64), payload=st.floats(0, 1e9))
def test_an_all_reduce_takes_a_latency_and_the_optimal_bytes(ranks: int, payload: float) -> None:
    found = all_reduce_ns(NVLINK, ranks, payload)
    assert found >= NVLINK.latency_ns
    assert found >= (ranks - 1) / ranks * payload * NVLINK.ns_per_byte
    assert found <= ring_all_reduce_ns(NVLINK, ranks, payload)


def test_small_messages_go_in_one_shot_and_large_ones_in_pieces() -> None:
    assert all_reduce_ns(NVLINK, 4, 1e3) == one_shot_all_reduce_ns(NVLINK, 4, 1e3)
    assert all_reduce_ns(NVLINK, 4, 1e8) == two_shot_all_reduce_ns(NVLINK, 4, 1e8)
    assert all_reduce_ns(NVLINK, 64, 1e3) == tree_all_reduce_ns(NVLINK, 64, 1e3)
    assert all_reduce_ns(NVLINK, 64, 1e11) == ring_all_reduce_ns(NVLINK, 64, 1e11)


def test_a_ring_moves_twice_its_share() -> None:
    expected = 6 * NVLINK.latency_ns + 1.5 * 1e6 * NVLINK.ns_per_byte
    assert ring_all_reduce_ns(NVLINK, 4, 1e6) == pytest.approx(expected)
