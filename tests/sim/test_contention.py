"""The timed executor asks a timing model that knows contention, and keeps its laws."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import partial

from hypothesis import given, settings, strategies as st

from headway.clocks import VirtualClock
from headway.core import Request, Sequence
from headway.core.plan import LAYER, Step, StepResult, Work
from headway.core.protocols import SHARES
from headway.sim import Lengths, Timed
from headway.sim.flight import Flight
from headway.testing import StepTimes
from headway.timing import Recorded


class Contending(Recorded):
    """Every lane runs at 7/8 of its share."""

    def rates(self, steps: Seq[Step], shares: Seq[int]) -> list[int]:
        assert len(steps) == len(shares)
        return [share * 7 // 8 for share in shares]


@dataclass
class Lane:
    at_ns: int
    duration_ns: int
    share: int


def _ends(lanes: Seq[Lane], looks: Seq[int] = (), stops: Seq[int] = ()) -> dict[str, list[int]]:
    clock, handles = VirtualClock(), list[Flight]()
    when = Contending([lane.duration_ns for lane in lanes], layers=8)
    executor = Timed(clock, when, Lengths({}, 8))
    ends: dict[str, list[int]] = {}

    def land(name: str, result: StepResult) -> None:
        ends[name] = list(result.ends_ns)

    def start(n: int) -> None:
        works = [Work(Sequence(Request(n, 0, 10, 10)), 10)]
        step = Step(n, f"l{n}", works, 1, lanes[n].share, n)
        handles.append(executor.execute(step, partial(land, f"l{n}")))

    def each(what: str) -> None:
        for handle in handles:
            if handle.rate and handle.timer:
                handle._advance() if what == "look" else handle.interrupt(LAYER)

    for n, lane in enumerate(lanes):
        clock.call_at(lane.at_ns, partial(start, n))
    for at in looks:
        clock.call_at(at, partial(each, "look"))
    for at in stops:
        clock.call_at(at, partial(each, "stop"))
    clock.run()
    assert len(ends) == len(lanes)
    return ends


def test_a_lane_alone_keeps_to_its_part() -> None:
    assert _ends([Lane(0, 700, 500)]) == {"l0": [1602]}  # 437 per mille
    assert _ends([Lane(0, 700, 1000)]) == {"l0": [700]}


LANES = st.lists(
    st.builds(Lane, st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 1000)),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60)
@given(LANES, st.lists(st.integers(1, 20_000), max_size=6))
def test_looking_changes_nothing(lanes: list[Lane], looks: list[int]) -> None:
    assert _ends(lanes, looks) == _ends(lanes)


@settings(max_examples=60)
@given(LANES, st.lists(st.integers(1, 20_000), max_size=3))
def test_a_stopped_lane_ends_no_later(lanes: list[Lane], stops: list[int]) -> None:
    """One lane; company would only end earlier with it."""
    one = lanes[:1]
    assert _ends(one, stops=stops)["l0"] <= _ends(one)["l0"]
    assert len(_ends(lanes, stops=stops)) == len(lanes)


def test_only_a_model_that_knows_offers_shares() -> None:
    clock, lengths = VirtualClock(), Lengths({}, 8)
    assert SHARES in Timed(clock, Contending([], layers=8), lengths).offers
    assert SHARES not in Timed(clock, StepTimes(), lengths).offers
