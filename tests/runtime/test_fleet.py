"""Admission, routing, and one outcome for each request, over good networks and bad ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings, strategies as st

from headway.clocks import VirtualClock, WallClock
from headway.core import NS_PER_MS, NS_PER_S, Request
from headway.core.fleet import Report
from headway.core.protocols import ARRIVAL, Clock
from headway.errors import OptionError
from headway.policies.admission.bounded_queue import BoundedQueue
from headway.policies.admission.unbounded import Unbounded
from headway.policies.batching.sarathi import Sarathi
from headway.policies.memory.recompute import Recompute
from headway.policies.ordering.fcfs import Fcfs
from headway.policies.routing.least_work import LeastWork
from headway.runtime import Fleet, Instance, InstanceOptions, LocalPort
from headway.sim import Lengths, Timed
from headway.testing import FakePort, Log, Setup, SmallWorkload, StepTimes, run_sim, small_workload
from headway.workload import Offered


class Remote:
    """One local instance and two behind a bad network."""

    def __init__(self, clock: Clock, *, loss: float, repeat: float, seed: int) -> None:
        self.clock, self.log, self.ends = clock, Log(audited=True), dict[int, str]()
        lengths = self.lengths = Lengths({}, StepTimes().layers)
        self.instances: list[Instance] = []
        self.fakes: list[FakePort] = []
        ports: dict[str, LocalPort | FakePort] = {}
        for n in range(3):
            port = LocalPort(clock, self.log, 40 * NS_PER_MS)
            port.instance = Instance(
                clock,
                Timed(clock, StepTimes(), lengths),
                (Sarathi(), Fcfs(), Recompute()),
                InstanceOptions(200, key=n, name=f"i{n}"),
                port,
            )
            self.instances.append(port.instance)
            ports[f"i{n}"] = port
            if n:
                fake = FakePort(clock, port, loss=loss, repeat=repeat, seed=seed + n)
                port.ended = fake.end
                self.fakes.append(fake)
                ports[f"i{n}"] = fake
        self.fleet = Fleet(clock, ports, (Unbounded(), LeastWork()), self._ended)
        for each in ports.values():
            if isinstance(each, FakePort) or each.ended.__name__ == "<lambda>":
                each.ended = self.fleet.ended

    def _ended(self, request: Request, outcome: str) -> None:
        assert request.id not in self.ends, "the fleet hears repeats and counts once"
        self.ends[request.id] = outcome

    def offer(self, workload: SmallWorkload) -> None:
        for request, output_tokens in workload.requests:
            self.lengths.output_tokens[request.id] = output_tokens
            self.clock.call_at(
                request.arrival_ns, partial(self.fleet.submit, request), ARRIVAL, request.id
            )
        for request_id, time_ns in workload.aborts.items():
            self.clock.call_at(time_ns, partial(self.fleet.abort, request_id))

    def check(self, workload: SmallWorkload) -> None:
        assert set(self.ends) == {offer.request.id for offer in workload.requests}
        assert self.ends == self.log.ends, "each ended once where it ran, and the fleet knows how"
        assert not self.fleet.view.in_flight
        for instance in self.instances:
            assert instance.pool.free == instance.pool.total
            assert not instance.sequences
        for request, output_tokens in workload.requests:
            if self.ends[request.id] == "finished":
                assert len(self.log.times_ns[request.id]) == output_tokens


@settings(max_examples=20)
@given(st.sampled_from((0.0, 0.2, 0.6)), st.sampled_from((0.0, 0.5)), st.integers(0, 99))
def test_lossy_ports_deliver_every_request_and_end(loss: float, repeat: float, seed: int) -> None:
    remote = Remote(VirtualClock(), loss=loss, repeat=repeat, seed=seed)
    workload = small_workload(seed, 40, 40.0, output_tokens=(1, 20), abort_share=0.2)
    remote.offer(workload)
    assert isinstance(remote.clock, VirtualClock)
    remote.clock.run()
    remote.check(workload)
    assert loss == 0.0 or any(fake.network.lost for fake in remote.fakes)


@pytest.mark.slow
def test_lossy_ports_in_real_time() -> None:
    workload = small_workload(3, 30, 40.0, output_tokens=(1, 20), abort_share=0.2)

    async def run() -> Remote:
        clock = WallClock(asyncio.get_running_loop(), speedup=10.0)
        remote = Remote(clock, loss=0.2, repeat=0.2, seed=1)
        remote.offer(workload)
        drained = asyncio.Event()
        clock.call_at(4 * NS_PER_S, lambda: remote.fleet.drain(drained.set))
        await asyncio.wait_for(drained.wait(), 30)
        while len(remote.ends) < 30:  # noqa: ASYNC110 - on their way over the network
            await asyncio.sleep(0.01)
        return remote

    asyncio.run(asyncio.wait_for(run(), 60)).check(workload)


def test_admission_that_refuses_says_why_once() -> None:
    run = run_sim(small_workload(1, 30, 500.0), Setup(admission=partial(BoundedQueue, 4)))
    run.conserved()
    refused = [outcome for outcome in run.log.ends.values() if outcome.startswith("rejected: ")]
    assert len(refused) == 26
    assert set(refused) == {"rejected: 4 requests are in the fleet, at most 4: retry later"}


def test_a_request_that_supersedes_another_ends_it() -> None:
    first = Request(0, 0, 100, 500)
    second = Request(1, 100_000_000, 100, 5, supersedes=0)
    run = run_sim(SmallWorkload((Offered(first, 500), Offered(second, 5))))
    run.conserved()
    assert run.log.ends == {0: "aborted", 1: "finished"}
    assert run.log.ends_ns[0] == 100_000_000


def test_an_instance_that_stopped_gets_no_more_requests() -> None:
    class FailsOnce(Sarathi):
        made = 0

        def __init__(self) -> None:
            super().__init__()
            FailsOnce.made += 1
            self.bad = FailsOnce.made == 1

        def plan(self, view):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            if self.bad:
                raise LookupError("never mind")
            return super().plan(view)

    run = run_sim(
        small_workload(1, 40, 10.0), Setup(FailsOnce, instances=2, report_interval_ns=NS_PER_MS)
    )
    outcomes = list(run.log.ends.values())
    assert len(outcomes) == 40
    assert 0 < sum(outcome != "finished" for outcome in outcomes) < 5


def test_reports_that_overtake_each_other_do_not_go_back_in_time() -> None:
    remote = Remote(VirtualClock(), loss=0.0, repeat=0.0, seed=1)
    view = remote.fleet.view
    view.heard("i1", Report(200, 5, 50, 1, 10, 20))
    view.heard("i1", Report(100, 9, 90, 2, 3, 20))
    assert view.report("i1").requests == 5
    assert view.age_ns("i1") == -200


def test_unknown_measure_of_load_is_refused_by_name() -> None:
    remote = Remote(VirtualClock(), loss=0.0, repeat=0.0, seed=1)
    with pytest.raises(OptionError, match=r"'colour'.*requests or prompt_tokens"):
        remote.fleet.view.load("i1", "colour")


@pytest.mark.parametrize("name", ["nowhere", ""])
def test_a_route_to_nowhere_rejects_the_request_and_names_the_policy(name: str) -> None:
    make: Callable[[], object] = type("Astray", (), {"route": lambda *_: name})
    run = run_sim(small_workload(1, 3), Setup(routing=make))
    assert all(o.startswith("rejected: Astray: routed to") for o in run.log.ends.values())
    assert len(run.log.ends) == 3
