"""One call, one run: a workload through a fleet, in virtual time or in real time, and what came out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence as Seq
from dataclasses import dataclass, field, replace
from functools import partial

from headway.clocks import WallClock
from headway.core.fleet import ABORTED, FINISHED_OK, MIXED, REJECTED
from headway.core.protocols import ARRIVAL, Clock, Executor, Offer, TimingModel
from headway.core.request import NS_PER_S, Request
from headway.runtime import Fleet, Instance, InstanceOptions, LocalPort
from headway.runtime.fleet_view import Bandwidth
from headway.runtime.prefix_index import NameAnswer
from headway.runtime.traits import speculation_of
from headway.sim import Lengths, Timed
from headway.testing.audit import audit
from headway.testing.log import Log
from headway.testing.policy_refs import PolicyRef, maker
from headway.testing.replay import Recording
from headway.testing.small_workload import SmallWorkload
from headway.testing.step_times import StepTimes
from headway.timing import Linked, Topology
from headway.worlds import Policies, SimulatedPool, Simulation

MakeExecutor = Callable[[Clock, Lengths], Executor]
"""(clock, true lengths) -> an executor for one instance."""

OnStart = Callable[[Fleet, Clock], None]


@dataclass(frozen=True)
class Setup:
    """What to run. `recorded`: keep the views that the batching policies saw, for `replay`."""

    batching: PolicyRef = "sarathi"
    ordering: PolicyRef = "fcfs"
    memory: PolicyRef = "recompute"
    speculation: PolicyRef = "none"
    routing: PolicyRef = "least_work"
    admission: PolicyRef = "unbounded"
    control: PolicyRef = "none"
    blocks: int = 20_000
    block_tokens: int = 16
    host_blocks: int | None = None
    prefix_cache: bool = True
    salted: bool = True
    leap: bool = True
    step_tokens: int | None = None
    instances: int = 1
    report_interval_ns: int | None = None
    roles: tuple[str, ...] = ()  # of the first instances; the others are mixed
    last_stage_blocks: int = 16  # of a migration
    names: NameAnswer | None = None  # of answers, for prompts named block by block
    seed: int = 0
    timing: TimingModel = field(default_factory=StepTimes)
    topology: Topology | None = None  # of instances i0, i1, ...; None: `timing` says all
    block_bytes: int = 1 << 20  # over its links
    audited: bool = True
    recorded: bool = False

    @property
    def options(self) -> InstanceOptions:
        """Of one instance."""
        return InstanceOptions(
            self.blocks,
            self.block_tokens,
            step_tokens=self.step_tokens,
            prefix_cache=self.prefix_cache,
            salted=self.salted,
            leap=self.leap,
            host_blocks=self.host_blocks,
            seed=self.seed,
            last_stage_blocks=self.last_stage_blocks,
            names=self.names,
        )

    @property
    def all_roles(self) -> tuple[str, ...]:
        """One for each instance."""
        return (*self.roles, *[MIXED] * self.instances)[: self.instances]

    def timing_of(self, n: int) -> TimingModel:
        """Of one instance."""
        if self.topology is None:
            return self.timing
        return Linked(self.timing, f"i{n}", self.topology, self.block_bytes)

    @property
    def bandwidth(self) -> Bandwidth | None:
        """What routing is told of the links."""
        return None if self.topology is None else self.topology.bytes_per_s

    def policies(self, recordings: list[Recording]) -> Policies:
        """Makers of instance policies; every batching policy is recorded when asked for."""
        batching = maker("batching", self.batching)

        def recorded() -> Recording:
            recordings.append(Recording.of(batching()))
            return recordings[-1]

        return Policies(
            recorded if self.recorded else batching,
            maker("ordering", self.ordering),
            maker("memory", self.memory),
            maker("routing", self.routing)(),
            maker("admission", self.admission)(),
            maker("speculation", self.speculation),
            maker("control", self.control)(),
        )


@dataclass
class Run:
    """A run that is over."""

    setup: Setup
    log: Log
    instances: Seq[Instance]
    fleet: Fleet
    offered: dict[int, Offer]
    recordings: list[Recording]

    @property
    def stopped(self) -> str:
        """Why an instance stopped; empty when none did."""
        return "; ".join(str(instance.stopped) for instance in self.instances if instance.stopped)

    def conserved(self) -> None:
        """Raise AssertionError unless requests, tokens and blocks are all accounted for."""
        ends, log = self.log.ends, self.log
        assert not self.stopped, f"an instance has stopped: {self.stopped}"
        missing, unasked = set(self.offered) - set(ends), set(ends) - set(self.offered)
        assert not missing, f"requests without an end: {sorted(missing)[:5]}"
        assert not unasked, f"ends of requests that nobody sent: {sorted(unasked)[:5]}"
        assert not self.fleet.view.in_flight, (
            f"{self.fleet.view.in_flight} requests still in flight"
        )
        for request_id, offer in self.offered.items():
            if ends[request_id] == FINISHED_OK:
                due = max(1, min(offer.output_tokens, offer.request.max_tokens))
                came = len(log.times_ns[request_id])
                assert came == due, f"request {request_id}: {came} tokens came out of {due}"
        for instance in self.instances:
            audit(instance)
            assert not instance.sequences, f"{instance.name} keeps {list(instance.sequences)[:5]}"
            pool, moves = instance.pool, instance.moves
            assert pool.free == pool.total, f"{pool.total - pool.free} KV blocks were not returned"
            assert not instance.busy and not moves.under_way, f"{instance.name} is still at work"
            assert not moves.host_held, f"{moves.host_held} blocks are left on the host"
            assert not moves.pending, f"{instance.name} waits for something to move"


def run_sim(workload: SmallWorkload, setup: Setup | None = None, *, until_s: float = 3600) -> Run:
    """Run in virtual time, at most `until_s` of it: a livelock ends there, without ends."""
    setup = setup or Setup()
    log, recordings = Log(audited=setup.audited), list[Recording]()
    simulation = Simulation(
        setup.timing,
        setup.policies(recordings),
        setup.options,
        log,
        pools=[
            SimulatedPool(1, role, setup.timing_of(n)) for n, role in enumerate(setup.all_roles)
        ],
        report_interval_ns=setup.report_interval_ns,
        seed=setup.seed,
        bandwidth=setup.bandwidth,
    )
    _watch(recordings, simulation.instances)
    tracked = _Tracked(workload)
    simulation.run(tracked, aborts=workload.aborts, until_ns=int(until_s * NS_PER_S))
    return Run(setup, log, simulation.instances, simulation.fleet, tracked.offered, recordings)


def run_live(
    workload: SmallWorkload,
    setup: Setup | None = None,
    *,
    executor: MakeExecutor | None = None,
    speedup: float = 1.0,
    timeout_s: float = 60,
    on_start: OnStart | None = None,
) -> Run:
    """Run in real time, `speedup` times as fast; None as executor computes nothing (`sim.Timed`).

    `on_start(fleet, clock)` may schedule what a workload cannot: migrations, for example.

    Raises:
        TimeoutError: requests are left after `timeout_s`.
    """
    return asyncio.run(_live(workload, setup or Setup(), executor, speedup, timeout_s, on_start))


async def _live(
    workload: SmallWorkload,
    setup: Setup,
    executor: MakeExecutor | None,
    speedup: float,
    timeout_s: float,
    on_start: OnStart | None,
) -> Run:
    clock = WallClock(asyncio.get_running_loop(), speedup=speedup)
    log, recordings = Log(audited=setup.audited), list[Recording]()
    live = LiveFleet(clock, setup, log, executor, recordings)
    tracked, over = _Tracked(workload), asyncio.Event()
    live.ended = partial(_ended, clock, live, tracked, over)
    for request_id, time_ns in workload.aborts.items():
        clock.call_at(time_ns, partial(live.fleet.abort, request_id))
    for offer in list(tracked.offers()):
        _offer(clock, live, offer)
    if on_start:
        on_start(live.fleet, clock)
    try:
        if tracked.offered:
            await asyncio.wait_for(over.wait(), timeout_s)
        drained = asyncio.Event()
        live.fleet.drain(drained.set)
        await asyncio.wait_for(drained.wait(), timeout_s)
        await asyncio.sleep(0)  # audits of the last step
    finally:
        for each in live.executors:
            getattr(each, "close", lambda: None)()
    return Run(setup, log, live.instances, live.fleet, tracked.offered, recordings)


class LiveFleet:
    """Instances of one process behind local ports on any clock. `ended(request, outcome)` hears every end."""

    def __init__(
        self,
        clock: Clock,
        setup: Setup,
        log: Log,
        executor: MakeExecutor | None,
        recordings: list[Recording],
    ) -> None:
        self.clock, self.log = clock, log
        self.lengths = Lengths({}, setup.timing.layers)
        self.ended: Callable[[Request, str], None] = lambda request, outcome: None
        self.instances: list[Instance] = []
        self.executors: list[Executor] = []
        policies = setup.policies(recordings)
        ports: dict[str, LocalPort] = {}
        for n in range(setup.instances):
            make = executor or partial(_timed, setup.timing_of(n))
            options, made = setup.options, make(clock, self.lengths)
            port = LocalPort(clock, log, setup.report_interval_ns)
            mine = (policies.batching(), policies.ordering(), policies.memory())
            role = setup.all_roles[n]
            named = replace(options, name=f"i{n}", key=n, seed=setup.seed + n, role=role)
            timing = setup.timing if executor is None else None
            drafts = speculation_of(policies.speculation())
            port.instance = Instance(clock, made, mine, named, port, timing, drafts)
            self.instances.append(port.instance)
            self.executors.append(made)
            ports[f"i{n}"] = port
        self.fleet = Fleet(
            clock,
            ports,
            (policies.admission, policies.routing),
            self._heard,
            timing=setup.timing if executor is None else None,
            seed=setup.seed,
            control=policies.control,
            roles={f"i{n}": role for n, role in enumerate(setup.all_roles) if role != MIXED},
            bandwidth=setup.bandwidth,
        )
        for port in ports.values():
            port.ended = self.fleet.ended
        _watch(recordings, self.instances)

    def _heard(self, request: Request, outcome: str) -> None:
        self.lengths.output_tokens.pop(request.id, None)
        if outcome.startswith((f"{REJECTED}:", f"{ABORTED}:")):
            self.log.on_end(request, None, outcome, self.clock.now_ns())
        self.ended(request, outcome)


class _Tracked:
    """A workload that remembers what it offered."""

    def __init__(self, workload: SmallWorkload) -> None:
        self._workload = workload
        self.offered: dict[int, Offer] = {}

    def offers(self) -> Iterator[Offer]:
        return iter(self._kept(list(self._workload.offers())))

    def on_end(self, request: Request, outcome: str, now_ns: int) -> Seq[Offer]:
        return self._kept(self._workload.on_end(request, outcome, now_ns))

    def _kept(self, offers: Seq[Offer]) -> Seq[Offer]:
        self.offered.update({offer.request.id: offer for offer in offers})
        return offers


def _timed(timing: TimingModel, clock: Clock, lengths: Lengths) -> Executor:
    return Timed(clock, timing, lengths)


def _watch(recordings: Seq[Recording], instances: Seq[Instance]) -> None:
    for recording, instance in zip(recordings, instances, strict=False):
        recording.instance = instance


def _offer(clock: Clock, live: LiveFleet, offer: Offer) -> None:
    request = offer.request
    live.lengths.output_tokens[request.id] = max(1, min(offer.output_tokens, request.max_tokens))
    clock.call_at(request.arrival_ns, partial(live.fleet.submit, request), ARRIVAL, request.id)


def _ended(
    clock: Clock,
    live: LiveFleet,
    tracked: _Tracked,
    over: asyncio.Event,
    request: Request,
    outcome: str,
) -> None:
    for offer in tracked.on_end(request, outcome, clock.now_ns()):
        _offer(clock, live, offer)
    if len(live.log.ends) == len(tracked.offered):
        over.set()
