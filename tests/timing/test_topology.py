"""What KV takes between two instances: the time of the link that joins their nodes, and of no other."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, strategies as st
from tests.timing.steps import decode, prompt, step

from headway.clocks import VirtualClock
from headway.core import Transfer
from headway.core.plan import IMPORT, SWAP_OUT
from headway.sim import Lengths, Timed
from headway.testing import StepTimes
from headway.timing import Link, Linked, Roofline, Topology, load_device, load_link, load_model

FAST, SLOW = load_link("nvlink4"), load_link("25gbe")
PAIRS = Topology({"i0": 0, "i1": 1, "i2": 0, "i3": 1}, FAST, SLOW)


def pull(n: int, peer: str, blocks: int = 10) -> Transfer:
    return Transfer(n, IMPORT, prompt(160, 161), blocks, peer)


def test_the_link_is_that_of_the_pair() -> None:
    mine = Linked(StepTimes(), "i2", PAIRS, 1 << 20)
    assert mine.transfer_ns(pull(1, "i0")) == FAST.transfer_ns(10 << 20)
    assert mine.transfer_ns(pull(2, "i1")) == SLOW.transfer_ns(10 << 20)
    assert PAIRS.bytes_per_s("i0", "i2") > PAIRS.bytes_per_s("i0", "i3")
    assert PAIRS.bytes_per_s("i0", "i3") == PAIRS.bytes_per_s("i3", "i0")


def test_what_a_timing_model_says_of_all_else_stays() -> None:
    plain = Roofline(load_model("llama-3.1-8b"), load_device("h100"))
    mine = Linked(plain, "i0", PAIRS, 1 << 20)
    works = step(decode(100), decode(900))
    assert mine.durations_ns(works, 3) == plain.durations_ns(works, 3)
    assert mine.chunk_time_ns(100, 50) == plain.chunk_time_ns(100, 50)
    swap = Transfer(1, SWAP_OUT, prompt(160, 161), 10)
    assert mine.transfer_ns(swap) == plain.transfer_ns(swap)
    assert mine.rates == plain.rates
    assert mine.prices_nano_batches


@given(
    st.floats(1e8, 1e12), st.floats(1.0, 100.0), st.integers(0, 10_000), st.sampled_from(("i1", "i2"))
)  # fmt: skip
def test_a_faster_link_never_takes_longer(
    bytes_per_s: float, times: float, blocks: int, peer: str
) -> None:
    def takes(speed: float) -> int:
        link = Link("any", speed, 10_000)
        return Linked(StepTimes(), "i0", Topology(PAIRS.nodes, link, link), 1 << 20).transfer_ns(
            pull(1, peer, blocks)
        )

    assert takes(bytes_per_s * times) <= takes(bytes_per_s)
    if blocks > 100 and times > 2:
        assert takes(bytes_per_s * times) < takes(bytes_per_s)


def arrivals(topology: Topology, *peers: str) -> list[tuple[str, int]]:
    """When an executor has pulled 10 blocks from each peer, all asked for at once."""
    clock, come = VirtualClock(), list[tuple[str, int]]()
    executor = Timed(clock, Linked(StepTimes(), "i0", topology, 1 << 20), Lengths({}, 8))
    for n, peer in enumerate(peers):
        kind = SWAP_OUT if peer == "host" else IMPORT
        executor.transfer(
            Transfer(n, kind, prompt(160, 161), 10, peer),
            lambda peer=peer: come.append((peer, clock.now_ns())),  # type: ignore[misc]  # bound now
        )
    clock.run()
    return come


def test_links_do_not_wait_for_each_other_and_the_network_shares_the_hosts() -> None:
    fast, slow, swap = FAST.transfer_ns(10 << 20), SLOW.transfer_ns(10 << 20), 10 * 100_003
    assert arrivals(PAIRS, "i1", "i2", "i2") == [("i2", fast), ("i2", 2 * fast), ("i1", slow)]
    assert arrivals(PAIRS, "i1", "host") == [("i1", slow), ("host", slow + swap)]


def test_equal_links_are_one_queue() -> None:
    equal = replace(PAIRS, node_link=SLOW)
    slow = SLOW.transfer_ns(10 << 20)
    assert arrivals(equal, "i1", "i2") == [("i1", slow), ("i2", 2 * slow)]
