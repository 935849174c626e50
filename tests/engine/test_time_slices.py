"""Turns at layer boundaries: times follow shares, nobody alone waits, everybody ends."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from threading import Barrier, Thread

import pytest
from hypothesis import given, settings, strategies as st

from headway.engine.time_slices import TimeSlicer


class Clock:
    """Advanced by whoever computes; two at once would be seen as `overlaps`."""

    def __init__(self) -> None:
        self.now_ns = self.inside = self.overlaps = 0

    def compute(self, duration_ns: int) -> None:
        self.inside += 1
        self.overlaps += self.inside > 1
        self.now_ns += duration_ns
        self.inside -= 1


def run(lanes: Seq[tuple[int, int, int]], steps: int = 1) -> tuple[Clock, list[tuple[int, int]]]:
    """Lanes of (share, ns a layer, layers), all wanting the device from the start; who computed when."""
    clock, order = Clock(), list[tuple[int, int]]()
    slicer, gate = TimeSlicer(lambda: clock.now_ns), Barrier(len(lanes) + 1)

    def lane(n: int) -> None:
        share, layer_ns, layers = lanes[n]
        gate.wait()
        for _ in range(steps):
            with slicer.step(f"l{n}", share) as turn:
                for layer in range(layers):
                    clock.compute(layer_ns)
                    order.append((n, clock.now_ns))
                    if layer < layers - 1:
                        turn.next_layer()

    threads = [Thread(target=lane, args=(n,), daemon=True) for n in range(len(lanes))]
    with slicer.step("gate"):  # until everybody waits
        for thread in threads:
            thread.start()
        gate.wait()
        while len(slicer._waiting) < len(lanes):
            pass
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "a lane waits for ever"
    return clock, order


LANE = st.tuples(st.integers(1, 1000), st.integers(1, 50), st.integers(1, 40))


@settings(max_examples=40)
@given(st.lists(LANE, min_size=2, max_size=3))
def test_times_follow_shares_within_a_layer(lanes: list[tuple[int, int, int]]) -> None:
    clock, order = run(lanes)
    assert not clock.overlaps
    assert clock.now_ns == sum(layer_ns * layers for _, layer_ns, layers in lanes)  # no idling
    had, left = [0] * len(lanes), [layers for *_, layers in lanes]
    for n, _ in order:
        had[n] += lanes[n][1]
        left[n] -= 1
        if not all(left):
            return  # somebody has ended: the others need not share any more
        for a, (share_a, layer_a, _) in enumerate(lanes):
            for b, (share_b, layer_b, _) in enumerate(lanes[:a]):
                apart = abs(had[a] / share_a - had[b] / share_b)
                assert apart <= layer_a / share_a + layer_b / share_b + 0.1  # whole numbers


def test_a_lane_alone_never_waits() -> None:
    clock, slicer = Clock(), TimeSlicer(lambda: clock.now_ns)
    for _ in range(3):
        with slicer.step("a", 1) as turn:
            for _ in range(10):
                clock.compute(7)
                turn.next_layer()
    assert clock.now_ns == 210


def test_nobody_saves_up_while_away() -> None:
    """Ten layers alone do not let the newcomer compute ten in a row afterwards."""
    clock, slicer, order = Clock(), TimeSlicer(lambda: clock.now_ns), list[str]()

    def late() -> None:
        with slicer.step("b", 500) as turn:
            for layer in range(4):
                clock.compute(10)
                order.append("b")
                if layer < 3:
                    turn.next_layer()

    thread = Thread(target=late, daemon=True)
    with slicer.step("a", 500) as turn:
        for layer in range(14):
            clock.compute(10)
            order.append("a")
            if layer == 9:
                thread.start()
                while not slicer._waiting:
                    pass
            if layer < 13:
                turn.next_layer()
    thread.join(20)
    assert "".join(order[10:]) in ("babababa", "bbababaa", "bbabaaba")


def test_a_step_that_raises_hands_the_device_on() -> None:
    slicer = TimeSlicer()
    with pytest.raises(RuntimeError, match="broken"), slicer.step("a"):
        raise RuntimeError("broken")
    with slicer.step("b") as turn:
        turn.next_layer()


def test_many_short_steps_of_several_lanes_all_end() -> None:
    clock, order = run([(100, 3, 4), (900, 5, 2), (500, 1, 9)], steps=50)
    assert len(order) == 50 * 15
    assert not clock.overlaps
