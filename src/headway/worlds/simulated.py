"""The simulated world, run: a virtual clock, timed instances behind local ports, and a workload's offers."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence as Seq
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from headway.clocks.virtual import VirtualClock
from headway.core.fleet import ABORTED, MIXED, REJECTED
from headway.core.protocols import (
    ARRIVAL,
    Admission,
    Batching,
    Control,
    Memory,
    Offer,
    Ordering,
    Routing,
    Sink,
    Speculation,
    TimingModel,
    Workload,
)
from headway.core.request import NS_PER_MS, Request
from headway.policies.speculation.none import NoSpeculation
from headway.runtime.fleet import Fleet
from headway.runtime.fleet_view import Bandwidth
from headway.runtime.instance import Instance, InstanceOptions
from headway.runtime.local_port import LocalPort
from headway.runtime.traits import speculation_of
from headway.sim.acceptance import Acceptance
from headway.sim.outcomes import Lengths
from headway.sim.timed import Timed
from headway.worlds.watchdog import Watchdog

REPORTS_NS = (
    50 * NS_PER_MS
)  # how often instances report when a policy reads it and nobody says how often


@dataclass(frozen=True)
class SimulatedPool:
    """Equal instances of one role; what is None is as for all."""

    instances: int
    role: str = MIXED
    timing: TimingModel | None = None
    blocks: int | None = None


@dataclass(frozen=True)
class Policies:
    """One object for the fleet, and a maker of one object per instance."""

    batching: Callable[[], Batching]
    ordering: Callable[[], Ordering]
    memory: Callable[[], Memory]
    routing: Routing
    admission: Admission
    speculation: Callable[[], Speculation] = NoSpeculation
    control: Control | None = None

    @property
    def read_reports(self) -> bool:
        """Does the control or the routing policy decide by them?"""
        controls = self.control is not None and self.control.period_ns > 0
        return controls or bool(getattr(self.routing, "reads_reports", False))


class Simulation:
    """A fleet of equal instances, or of pools of them, in virtual time.

    `sink` hears everything, rejections included. `pools` say how many instances there are, in place of `instances`;
    they are named i0, i1, ... in that order. `bandwidth` is what policies are told of the links between them: what
    transfers take is the timing model's to say, see `timing.Linked`.
    """

    def __init__(
        self,
        timing: TimingModel,
        policies: Policies,
        options: InstanceOptions,
        sink: Sink,
        *,
        instances: int = 1,
        report_interval_ns: int | None = None,
        seed: int = 0,
        pools: Seq[SimulatedPool] = (),
        acceptance: Acceptance | None = None,
        bandwidth: Bandwidth | None = None,
    ) -> None:
        self.clock = VirtualClock()
        self.sink = sink
        self.lengths = Lengths({}, timing.layers, acceptance=acceptance)
        self.instances: list[Instance] = []
        ports: dict[str, LocalPort] = {}
        if report_interval_ns is None and policies.read_reports:
            report_interval_ns = REPORTS_NS
        each = [pool for pool in pools or [SimulatedPool(instances)] for _ in range(pool.instances)]
        for n, pool in enumerate(each):
            name, when = f"i{n}", pool.timing or timing
            port = LocalPort(self.clock, sink, report_interval_ns)
            executor = Timed(self.clock, when, self.lengths)
            blocks = pool.blocks or options.blocks
            mine = replace(options, name=name, key=n, seed=seed + n, role=pool.role, blocks=blocks)
            made = (policies.batching(), policies.ordering(), policies.memory())
            drafts = speculation_of(policies.speculation())
            port.instance = Instance(self.clock, executor, made, mine, port, when, drafts)
            self.instances.append(port.instance)
            ports[name] = port
        self.fleet = Fleet(
            self.clock,
            ports,
            (policies.admission, policies.routing),
            self._ended,
            timing=timing,
            seed=seed,
            control=policies.control,
            roles={f"i{n}": pool.role for n, pool in enumerate(each) if pool.role != MIXED},
            bandwidth=bandwidth,
        )
        for port in ports.values():
            port.ended = self.fleet.ended
        self._workload: Workload | None = None
        self._offers: Iterator[Offer] = iter(())
        self._heard: Callable[[Request], None] = lambda request: None
        self._watchdog: Watchdog | None = None

    def run(
        self,
        workload: Workload,
        *,
        aborts: Mapping[int, int] | None = None,
        on_offer: Callable[[Request], None] | None = None,
        until_ns: int | None = None,
    ) -> None:
        """Offer everything and run until all has ended, or until `until_ns`.

        `aborts`: request id -> time at which its client gives up.

        Raises:
            PlanError: without `until_ns`, when the policies make no progress: it would never end.
        """
        self._workload, self._offers = workload, iter(workload.offers())
        if on_offer:
            self._heard = on_offer
        if until_ns is None:
            self._watchdog = Watchdog(self.clock, self.instances)
        for request_id, time_ns in (aborts or {}).items():
            self.clock.call_at(time_ns, partial(self.fleet.abort, request_id))
        self._next()
        with _uncollected():
            self.clock.run(until_ns)

    def _next(self) -> None:
        """Pull the next offer only now: a trace is never held whole."""
        offer = next(self._offers, None)
        if offer is not None:
            request = offer.request
            self.clock.call_at(
                request.arrival_ns, partial(self._arrive, offer), ARRIVAL, request.id
            )

    def _arrive(self, offer: Offer) -> None:
        self._next()
        self._submit(offer)

    def _submit(self, offer: Offer) -> None:
        request = offer.request
        self._heard(request)
        self.lengths.output_tokens[request.id] = max(
            1, min(offer.output_tokens, request.max_tokens)
        )
        if self._watchdog:
            self._watchdog.submitted()
        self.fleet.submit(request)

    def _ended(self, request: Request, outcome: str) -> None:
        self.lengths.output_tokens.pop(request.id, None)
        now_ns = self.clock.now_ns()
        if self._watchdog:
            self._watchdog.ended(self.fleet.view.in_flight)
        if outcome.startswith((f"{REJECTED}:", f"{ABORTED}:")):
            self.sink.on_end(
                request, None, outcome, now_ns
            )  # no instance did: it never had it, or lost it
        if self._workload is not None:
            self._follow(self._workload.on_end(request, outcome, now_ns))

    def _follow(self, offers: Seq[Offer]) -> None:
        for offer in offers:
            request = offer.request
            self.clock.call_at(
                request.arrival_ns, partial(self._submit, offer), ARRIVAL, request.id
            )


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the cyclic collector: a simulation makes few cycles and breaks them, and pauses cost a fifth."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
