"""INV: a request that moves between instances loses no token, no block and no end."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given, settings, strategies as st

from headway.clocks import VirtualClock
from headway.core import NS_PER_S, Request
from headway.core.protocols import ARRIVAL
from headway.policies.admission.unbounded import Unbounded
from headway.policies.batching.sarathi import Sarathi
from headway.policies.memory.swap import Swap
from headway.policies.ordering.fcfs import Fcfs
from headway.policies.routing.least_work import LeastWork
from headway.runtime import Fleet, Instance, InstanceOptions, LocalPort
from headway.sim import Lengths, Timed
from headway.testing import Log, StepTimes, audit


class Pair:
    """A fleet of two instances whose requests all start at the first."""

    def __init__(self, blocks: tuple[int, int] = (300, 300)) -> None:
        self.clock, self.log = VirtualClock(), Log(audited=True)
        self.lengths = Lengths({}, StepTimes().layers)
        self.ends: dict[int, str] = {}
        self.ports: dict[str, LocalPort] = {}
        for n, size in enumerate(blocks):
            port = LocalPort(self.clock, self.log)
            port.instance = Instance(
                self.clock,
                Timed(self.clock, StepTimes(), self.lengths),
                (Sarathi(), Fcfs(), Swap()),
                InstanceOptions(size, key=n, name=f"i{n}"),
                port,
            )
            self.ports[f"i{n}"] = port
        first = type("First", (LeastWork,), {"route": lambda *_: "i0"})()
        self.fleet = Fleet(self.clock, self.ports, (Unbounded(), first), self._ended)
        for port in self.ports.values():
            port.ended = self.fleet.ended

    def _ended(self, request: Request, outcome: str) -> None:
        assert request.id not in self.ends
        self.ends[request.id] = outcome

    def run(self, requests: list[Request]) -> None:
        for request in requests:
            self.lengths.output_tokens[request.id] = request.max_tokens
            self.clock.call_at(
                request.arrival_ns, partial(self.fleet.submit, request), ARRIVAL, request.id
            )
        self.clock.run(3600 * NS_PER_S)
        assert set(self.ends) == {request.id for request in requests}
        assert not self.fleet.view.in_flight
        assert [self.fleet.view.load(name) for name in self.ports] == [0, 0]
        for port in self.ports.values():
            audit(port.instance)
            assert port.instance.pool.free == port.instance.pool.total
            assert not port.instance.moves.under_way
            assert port.instance.report().prompt_tokens == 0
        for request in requests:
            if self.ends[request.id] == "finished":
                assert len(self.log.times_ns[request.id]) == request.max_tokens


def requests(count: int) -> list[Request]:
    return [
        Request(n, n * 30_000_000, 100 + 150 * (n % 5), 10 + 20 * (n % 4)) for n in range(count)
    ]


times = st.integers(0, 2 * NS_PER_S)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(times, st.integers(0, 9), st.sampled_from(("i0", "i1"))), max_size=25),
    st.lists(st.tuples(times, st.integers(0, 9)), max_size=4),
    st.sampled_from((60, 130, 300)),
)
def test_migration_at_any_time_conserves_requests_tokens_and_blocks(
    moves: list[tuple[int, int, str]], aborts: list[tuple[int, int]], target_blocks: int
) -> None:
    pair = Pair((130, target_blocks))
    for time_ns, request_id, to in moves:
        pair.clock.call_at(time_ns, partial(pair.fleet.migrate, request_id, to))
    for time_ns, request_id in aborts:
        pair.clock.call_at(time_ns, partial(pair.fleet.abort, request_id))
    pair.run(requests(10))
    assert set(pair.ends.values()) <= {"finished", "aborted"} or any(
        outcome.startswith("aborted: ") for outcome in pair.ends.values()
    )


def test_a_migrated_request_goes_on_where_it_was() -> None:
    pair = Pair()
    pair.clock.call_at(200_000_000, partial(pair.fleet.migrate, 0, "i1"))
    pair.run([Request(0, 0, 600, 50)])
    assert pair.ends == {0: "finished"}
    assert pair.log.computed[0] == 600 + 50 - 1  # nothing was computed twice
    assert pair.ports["i1"].instance.steps
    assert pair.ports["i0"].instance.steps + pair.ports["i1"].instance.steps > 2


def test_a_full_target_sends_it_back() -> None:
    pair = Pair((300, 20))
    pair.clock.call_at(200_000_000, partial(pair.fleet.migrate, 0, "i1"))
    pair.run([Request(0, 0, 600, 50)])
    assert pair.ends == {0: "finished"}
    assert pair.log.computed[0] == 600 + 50 - 1
    assert not pair.ports["i1"].instance.steps


@pytest.mark.parametrize("to", ["i0", "nowhere"])
def test_migrating_to_itself_or_nowhere_does_nothing(to: str) -> None:
    pair = Pair()
    pair.clock.call_at(200_000_000, partial(pair.fleet.migrate, 0, to))
    pair.run([Request(0, 0, 600, 50)])
    assert pair.ends == {0: "finished"}


def test_migrating_what_has_ended_does_nothing() -> None:
    pair = Pair()
    pair.run([Request(0, 0, 60, 5)])
    pair.fleet.migrate(0, "i1")
    pair.clock.run()
    assert pair.ends == {0: "finished"}
