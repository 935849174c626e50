"""The executor that computes nothing: lanes share the device, ends are whole nanoseconds, layers are boundaries."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from functools import partial

import pytest
from hypothesis import given, settings, strategies as st

from headway.clocks import VirtualClock
from headway.core import Request, Sequence
from headway.core.plan import (
    DONE,
    INTERRUPTED,
    LAYER,
    STEP,
    SWAP_OUT,
    Step,
    StepResult,
    Transfer,
    Work,
)
from headway.core.protocols import LEAPS
from headway.sim import Lengths, Timed
from headway.sim.flight import Flight
from headway.sim.outcomes import accepted
from headway.testing import StepTimes
from headway.timing import Recorded

LAYERS = 8


class Bench:
    """A timed executor whose steps take what the test says."""

    def __init__(self, *durations_ns: int) -> None:
        self.clock = VirtualClock()
        self.results: dict[str, list[StepResult]] = {}
        self.lengths = Lengths({}, LAYERS)
        when = Recorded(durations_ns, (100, 200, 300), layers=LAYERS)
        self.executor = Timed(self.clock, when, self.lengths)

    def run(self, lane: str = "main", *, share: int | None = None, key: int = 0, repeats: int = 1,
            works: Seq[Work] | None = None) -> Flight:  # fmt: skip
        works = works or [Work(Sequence(Request(0, 0, 10, 10)), 10)]
        step = Step(0, lane, works, repeats, share, key)
        done = self.results.setdefault(lane, [])
        return self.executor.execute(step, done.append)

    def ends(self, lane: str = "main") -> list[int]:
        return [end for result in self.results[lane] for end in result.ends_ns]


def test_a_lane_alone_has_the_whole_device() -> None:
    bench = Bench(100)
    bench.run(share=10)
    bench.clock.run()
    assert bench.ends() == [100]


def test_lanes_side_by_side_run_at_their_shares_and_alone_again_at_full_rate() -> None:
    bench = Bench(600, 800)
    bench.run("a", share=600)
    bench.run("b", share=400, key=1)
    bench.clock.run()
    assert bench.ends("a") == [1000]  # 600 / 0.6
    assert bench.ends("b") == [1400]  # 400 done of 800 by then, the rest alone
    assert bench.clock.now_ns() == 1400


def test_lanes_without_shares_have_equal_parts() -> None:
    bench = Bench(100, 100)
    bench.run("a")
    bench.run("b", key=1)
    bench.clock.run()
    assert bench.ends("a") == bench.ends("b") == [200]


def test_steps_of_one_lane_queue() -> None:
    bench = Bench(100, 50)
    bench.run()
    bench.run()
    bench.clock.run()
    assert bench.ends() == [100, 150]


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 999)),
        min_size=1,
        max_size=6,
    ),
    st.lists(st.integers(1, 20_000), max_size=6),
)
def test_looking_at_a_step_changes_nothing(
    steps: list[tuple[int, int, int]], looks: list[int]
) -> None:
    """Re-timing twice equals re-timing once: settles at any time leave all ends where they are."""

    def ends(looks: list[int]) -> list[list[int]]:
        bench = Bench(*(duration for _, duration, _ in steps))
        handles: list[Flight] = []

        def start(n: int, share: int) -> None:
            handles.append(bench.run(f"l{n}", share=share, key=n))

        def look() -> None:
            for handle in handles:
                if handle.rate and handle.timer:
                    handle._advance()

        for n, (at, _, share) in enumerate(steps):
            bench.clock.call_at(at, partial(start, n, share))
        for at in looks:
            bench.clock.call_at(at, look)
        bench.clock.run()
        return [bench.ends(f"l{n}") for n in range(len(steps))]

    assert ends(looks) == ends([])


def test_an_interrupt_at_a_layer_ends_with_the_layer_under_way() -> None:
    bench = Bench(800)
    handle = bench.run()
    bench.clock.call_at(250, lambda: handle.interrupt(LAYER))
    bench.clock.run()
    (result,) = bench.results["main"]
    assert (result.status, list(result.ends_ns)) == (INTERRUPTED, [300])
    assert [(done.layers, done.tokens, done.emitted) for done in result.done] == [(3, 0, 0)]


@pytest.mark.parametrize(("boundary", "at"), [(STEP, 250), (LAYER, 750)])
def test_an_interrupt_that_comes_to_nothing(boundary: str, at: int) -> None:
    """A step ends at the step's end anyway, and in its last layer there is no boundary left."""
    bench = Bench(800)
    handle = bench.run()
    bench.clock.call_at(at, lambda: handle.interrupt(boundary))
    bench.clock.run()
    (result,) = bench.results["main"]
    assert (result.status, list(result.ends_ns)) == (DONE, [800])


def test_a_leap_hands_over_what_landed_and_ends_at_the_next_boundary() -> None:
    bench = Bench(*[100] * 10)
    works = [Work(Sequence(Request(0, 0, 1, 50)), 1)]
    bench.lengths.output_tokens[0] = 50
    handle = bench.run(repeats=10, works=works)
    landed: list[StepResult | None] = []

    def look() -> None:
        landed.append(handle.settle())
        handle.interrupt(STEP)

    bench.clock.call_at(350, look)
    bench.clock.run()
    assert landed[0] is not None
    assert list(landed[0].ends_ns) == [100, 200, 300]
    assert [done.emitted for done in landed[0].done] == [3]
    assert bench.ends() == [400]


def test_a_leap_ends_when_the_first_model_stops() -> None:
    bench = Bench(*[100] * 10)
    sequences = [Sequence(Request(n, 0, 1, 50)) for n in range(2)]
    bench.lengths.output_tokens |= {0: 4, 1: 9}
    bench.run(repeats=10, works=[Work(sequence, 1) for sequence in sequences])
    bench.clock.run()
    assert bench.ends() == [100, 200, 300, 400]
    assert [done.ended for done in bench.results["main"][0].done] == [True, False]


def test_transfers_share_one_link_first_come_first_served() -> None:
    bench = Bench()
    sequence, arrived = Sequence(Request(0, 0, 1, 1)), list[int]()
    for n in range(3):
        transfer = Transfer(n, SWAP_OUT, sequence, 1)
        bench.executor.transfer(transfer, lambda: arrived.append(bench.clock.now_ns()))
    assert not arrived
    bench.clock.run()
    assert arrived == [100, 300, 600]


def test_drafts_are_accepted_by_position_and_never_beyond_the_end() -> None:
    lengths = Lengths({0: 6}, LAYERS)
    sequence = Sequence(Request(0, 0, 4, 10))
    sequence.computed_tokens, sequence.total_tokens, sequence.output_tokens = 4, 5, 1
    seen = []
    while sequence.output_tokens < 6:
        (done,) = lengths.outcome(Step(0, "main", [Work(sequence, 3, None, 2)]), LAYERS)
        assert done == lengths.outcome(Step(1, "main", [Work(sequence, 3, None, 2)]), LAYERS)[0]
        assert done.emitted == min(1 + accepted(sequence, 2), 6 - sequence.output_tokens)
        seen.append(done.emitted)
        sequence.output_tokens += done.emitted
        sequence.total_tokens += done.emitted
        sequence.computed_tokens += done.tokens
    assert done.ended
    assert sum(seen) == 5


def test_outcomes_that_cannot_leap_say_so() -> None:
    clock = VirtualClock()
    assert LEAPS in Timed(clock, StepTimes(), Lengths()).offers
    assert LEAPS not in Timed(clock, StepTimes(), Lengths(leaps=False)).offers
