"""Migration in stages: the downtime does not grow with the length, and no interleaving loses anything."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from random import Random
from typing import Any

from hypothesis import given, settings, strategies as st

from headway.clocks import VirtualClock
from headway.core import Migrate, Request
from headway.core.fleet import DECODE, MIXED, PREFILL, Handoff, Report
from headway.core.protocols import ARRIVAL, InstancePort, MovingPort
from headway.policies.admission.unbounded import Unbounded
from headway.policies.batching.sarathi import Sarathi
from headway.policies.memory.recompute import Recompute
from headway.policies.ordering.fcfs import Fcfs
from headway.policies.routing.distserve import DistServe
from headway.runtime import Fleet, Instance, InstanceOptions, LocalPort
from headway.sim import Lengths, Timed
from headway.testing import Log, Run, Setup, SmallWorkload, StepTimes, run_sim, small_workload
from headway.workload import Offered


class Once:
    """Moves request 0 to the other instance at the first tick that finds it decoding."""

    period_ns = 777_000_000

    def __init__(self) -> None:
        self.done = False

    def tick(self, view):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        movable = [request_id for request_id, _ in view.report("i0").movable]
        if self.done or 0 not in movable:
            return []
        self.done = True
        return [Migrate(0, "i1")]


def migrated(prompt: int, **fields: Any) -> Run:
    setup = Setup(
        control=Once, routing=_First, instances=2, report_interval_ns=50_000_003, **fields
    )
    run = run_sim(SmallWorkload((Offered(Request(0, 0, prompt, 150), 150),)), setup)
    run.conserved()
    assert run.log.computed[0] == prompt + 149, "nothing is computed twice"
    return run


class _First:
    def route(self, request, view):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return "i0"


def longest_pause(run: Run) -> int:
    times = run.log.times_ns[0]
    gaps = [after - before for before, after in pairwise(times)]
    return max(gaps) - sorted(gaps)[len(gaps) // 2]


def test_downtime_does_not_grow_with_length() -> None:
    short, long = migrated(300), migrated(12_000)
    assert min(run.instances[1].steps for run in (short, long)) > 0, "both have moved"
    whole = 750 * StepTimes().block_ns
    assert longest_pause(long) <= 17 * StepTimes().block_ns < whole / 40
    assert abs(longest_pause(long) - longest_pause(short)) <= 17 * StepTimes().block_ns


def test_leaping_changes_nothing() -> None:
    leapt, stepped = migrated(5_000), migrated(5_000, leap=False)
    assert leapt.log.tokens == stepped.log.tokens


def test_a_destination_without_room_leaves_it_where_it_is() -> None:
    class Crowded(_First):
        def route(self, request, view):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return "i0" if request.id == 0 else "i1"

    offers = (Offered(Request(0, 0, 1500, 60), 60), Offered(Request(1, 0, 1500, 90), 90))
    setup = Setup(
        control=Once, routing=Crowded, instances=2, report_interval_ns=50_000_003, blocks=120
    )
    run = run_sim(SmallWorkload(offers), setup)
    run.conserved()
    assert set(run.log.ends.values()) == {"finished"}
    assert run.log.computed[0] == 1500 + 59


def test_a_waiting_request_moves_at_once_without_kv() -> None:
    class MoveQueued(Once):
        def tick(self, view):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            queued = view.report("i0").queued
            return [Migrate(queued[-1][0], "i1")] if queued and not view.load("i1") else []

    offers = tuple(Offered(Request(n, 0, 1200, 300), 300) for n in range(3))
    setup = Setup(
        control=MoveQueued, routing=_First, instances=2, report_interval_ns=50_000_003, blocks=100
    )
    run = run_sim(SmallWorkload(offers), setup)
    run.conserved()
    assert run.log.ends_ns[2] < run.log.ends_ns[1]
    assert run.instances[1].moves.under_way == 0


class SlowPort:
    """A port whose messages take a while in both directions, in order."""

    def __init__(self, clock: VirtualClock, inner: LocalPort, rng: Random) -> None:
        self._clock, self.inner, self._rng = clock, inner, rng
        self._there = self._back = 0
        self.ended: Callable[[Request, str], None] = lambda request, outcome: None

    def _go(self, fn: Callable[[], None]) -> None:
        self._there = max(self._there, self._clock.now_ns() + self._rng.randrange(60_000_000))
        self._clock.call_at(self._there, fn, ARRIVAL, self._there)

    def _return(self, fn: Callable[[], None]) -> None:
        self._back = max(self._back, self._clock.now_ns() + self._rng.randrange(60_000_000))
        self._clock.call_at(self._back, fn, ARRIVAL, self._back)

    def back(self, reply: Callable[..., None]) -> Callable[..., None]:
        return lambda *what: self._return(partial(reply, *what))

    def submit(self, request: Request, reply: Callable[[str | None], None]) -> None:
        self._go(partial(self.inner.submit, request, self.back(reply)))

    def abort(self, request_id: int, outcome: str = "aborted") -> None:
        self._go(partial(self.inner.abort, request_id, outcome))

    def watch(self, sink: Callable[[Report], None]) -> None:
        self.inner.watch(self.back(sink))

    def export_to(
        self, request_id: int, peer: str, on_ready: Callable[[Handoff | None], None]
    ) -> None:
        self._go(partial(self.inner.export_to, request_id, peer, self.back(on_ready)))

    def import_from(
        self, request: Request, handoff: Handoff, peer: str, reply: Callable[[str | None], None]
    ) -> None:
        self._go(partial(self.inner.import_from, request, handoff, peer, self.back(reply)))

    def ask_import(self, request: Request, reply: Callable[[str | None], None]) -> None:
        self._go(partial(self.inner.ask_import, request, self.back(reply)))

    def end_export(self, request_id: int, reply: Callable[[bool], None], *, gone: bool) -> None:
        self._go(partial(self.inner.end_export, request_id, self.back(reply), gone=gone))

    def end_import(self, request_id: int, *, commit: bool) -> None:
        self._go(partial(self.inner.end_import, request_id, commit=commit))

    def set_role(self, role: str) -> None:
        self._go(partial(self.inner.set_role, role))

    def watch_computed(self, sink: Callable[[Request], None]) -> None:
        self.inner.watch_computed(self.back(sink))

    def drain(self, on_drained: Callable[[], None]) -> None:
        self._go(partial(self.inner.drain, self.back(on_drained)))


@settings(max_examples=60)
@given(
    st.integers(0, 10_000),
    st.sampled_from(((MIXED, MIXED), (PREFILL, DECODE, MIXED), (PREFILL, PREFILL, DECODE))),
    st.lists(st.tuples(st.integers(0, 3_000_000_000), st.integers(0, 19), st.integers(0, 2))),
    st.sampled_from((100, 400)),
)
def test_moves_over_slow_ports_lose_nothing_in_any_interleaving(
    seed: int, roles: tuple[str, ...], moves: list[tuple[int, int, int]], blocks: int
) -> None:
    clock, log, ends = VirtualClock(), Log(audited=True), dict[int, str]()
    lengths, rng = Lengths({}, StepTimes().layers), Random(seed)
    locals_: list[LocalPort] = []
    slows: list[SlowPort] = []
    ports: dict[str, InstancePort] = {}
    for n, role in enumerate(roles):
        port = LocalPort(clock, log)
        options = InstanceOptions(blocks, key=n, name=f"i{n}", role=role, last_stage_blocks=4)
        made = (Sarathi(), Fcfs(), Recompute())
        port.instance = Instance(clock, Timed(clock, StepTimes(), lengths), made, options, port)
        slow = SlowPort(clock, port, rng)
        assert isinstance(slow, MovingPort)
        locals_.append(port)
        slows.append(slow)
        ports[f"i{n}"] = slow

    def ended(request: Request, outcome: str) -> None:
        assert request.id not in ends
        ends[request.id] = outcome

    named = {f"i{n}": role for n, role in enumerate(roles)}
    fleet = Fleet(clock, ports, (Unbounded(), DistServe()), ended, roles=named)
    for n, port in enumerate(locals_):
        port.ended = slows[n].back(fleet.ended)
    workload = small_workload(seed, 20, 20.0, abort_share=0.3)
    for request, length in workload.requests:
        lengths.output_tokens[request.id] = length
        clock.call_at(request.arrival_ns, partial(fleet.submit, request), ARRIVAL, request.id)
    for request_id, time_ns in workload.aborts.items():
        clock.call_at(time_ns, partial(fleet.abort, request_id))
    for time_ns, request_id, to in moves:
        clock.call_at(time_ns, partial(fleet.migrate, request_id, f"i{to}"))
    clock.run(3600_000_000_000)
    assert set(ends) == {offer.request.id for offer in workload.requests}
    assert ends == log.ends
    assert set(ends.values()) <= {"finished", "aborted"}
    assert not fleet.view.in_flight
    assert not fleet.moves.under_way
    assert not fleet.moves.computed
    assert [fleet.view.load(name) for name in ports] == [0] * len(roles)
    for port in locals_:
        assert port.instance.pool.free == port.instance.pool.total
        assert not port.instance.moves.pending
        assert not port.instance.sequences
    for request, length in workload.requests:
        if ends[request.id] == "finished":
            assert len(log.times_ns[request.id]) == length
