"""Many instances behind ports: admission, routing, and exactly one outcome for every request.

Holds no Instance. One instance is a fleet of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from random import Random

from headway.core.fleet import (
    ABORTED,
    DECODE,
    MIXED,
    PREFILL,
    REJECTED,
    Action,
    Enlist,
    Migrate,
    Report,
    Retire,
)
from headway.core.protocols import (
    Admission,
    Clock,
    Control,
    InstancePort,
    MovingPort,
    Routing,
    TimingModel,
)
from headway.core.request import Request
from headway.errors import HeadwayError, PlanError
from headway.runtime.blame import raised
from headway.runtime.fleet_moves import FleetMoves
from headway.runtime.fleet_view import Bandwidth, LiveFleetView

OnEnd = Callable[[Request, str], None]


class Fleet:
    """The router. `on_end(request, outcome)` fires once a request: finished, aborted, "rejected: why", ..."""

    def __init__(
        self,
        clock: Clock,
        ports: Mapping[str, InstancePort],
        policies: tuple[Admission, Routing],
        on_end: OnEnd,
        *,
        timing: TimingModel | None = None,
        seed: int = 0,
        control: Control | None = None,
        roles: Mapping[str, str] | None = None,
        moves_at_once: int = 1,
        bandwidth: Bandwidth | None = None,
    ) -> None:
        """`roles` are those that differ from mixed; `moves_at_once`: migrations an instance may take part in.

        `bandwidth`: bytes per second between two instances; None: all are alike.
        """
        self.clock, self.ports = clock, dict(ports)
        self.admission, self.routing = policies
        self.control = control if control is not None and control.period_ns > 0 else None
        self._ticking = False
        everybody: tuple[object, ...] = (*policies, self.control)
        meet = getattr(self.control, "meet", None)
        if meet is not None:
            meet(self.routing)
        self._listeners: list[OnEnd] = [p.on_end for p in everybody if hasattr(p, "on_end")]
        self._hear_places = [p.on_place for p in everybody if hasattr(p, "on_place")]
        self._on_end = on_end
        rng = Random(seed)
        self.view = LiveFleetView(clock, list(ports), rng, timing, roles, bandwidth)
        self.where: dict[int, tuple[str, Request]] = {}  # who owns which request
        self.control_error = ""  # why the control policy is not asked any more
        moving = {name: port for name, port in ports.items() if isinstance(port, MovingPort)}
        self.moves = FleetMoves(self, moving, moves_at_once)
        for name, port in ports.items():
            port.watch(partial(self._heard, name))

    def submit(self, request: Request) -> None:
        """Admit, route and send a request; it ends through `on_end`, whatever happens."""
        if request.supersedes is not None:
            self.abort(request.supersedes)
        name, why_not = self._place(request)
        if why_not is not None:
            self._on_end(request, f"{REJECTED}: {why_not}")
            return
        self.where[request.id] = (name, request)
        self.view.sent(name, request)
        if self._hear_places:
            self.placed(request, name)
        if self.control and not self._ticking:
            self._ticking = True
            self._later(self.control)
        self.ports[name].submit(request, partial(self._replied, request))

    def _place(self, request: Request) -> tuple[str, str | None]:
        """Ask the policies: an instance, or why not. What they raise refuses this request and no other."""
        policy: object = self.admission
        method = "admit"
        try:
            why_not = self.admission.admit(request, self.view)
            if why_not is not None:
                return "", self._reason(why_not)
            if not self.view.instances:
                return "", f"every instance has stopped: {self.view.stopped or 'no reason given'}"
            policy, method = self.routing, "route"
            return self._route(request), None
        except HeadwayError as error:
            return "", str(error)
        except Exception as error:  # noqa: BLE001 - a policy is somebody else's code
            return "", raised(policy, method, error)

    def _reason(self, why_not: object) -> str:
        """A refusal's reason; what is none says so: clients read it."""
        if isinstance(why_not, str) and why_not:
            return why_not
        name = type(self.admission).__name__
        return f"{name}: admit() returned {why_not!r}: None accepts, else a reason in words"

    def _route(self, request: Request) -> str:
        name = self.routing.route(request, self.view)
        if name not in self.ports:
            policy = type(self.routing).__name__
            raise PlanError(
                f"{policy}: routed to {name!r} (instances: {', '.join(self.view.instances)})"
            )
        return name

    def abort(self, request_id: int, outcome: str = ABORTED) -> None:
        """End a request wherever it is, as `outcome`; unknown ids are ignored."""
        if request_id in self.where:
            move = self.moves.under_way.get(request_id)
            if move:
                move.aborted = True  # should it be on neither side when this arrives
            self.ports[self.where[request_id][0]].abort(request_id, outcome)

    def ended(self, request: Request, outcome: str) -> None:
        """An instance ended a request. Heard at least once; counts once."""
        where = self.where.pop(request.id, None)
        if where:
            moves, name = self.moves, where[0]
            if moves.under_way or moves.computed:
                name = moves.ended(request) or name
                moves.retry()
            self.view.ended(name, request)
            for listener in self._listeners:
                listener(request, outcome)
            self._on_end(request, outcome)

    def _heard(self, instance: str, report: Report) -> None:
        self.view.heard(instance, report)
        if self.moves.computed or self.moves.under_way:
            self.moves.retry()

    def _later(self, control: Control) -> None:
        self.clock.call_at(self.clock.now_ns() + control.period_ns, partial(self._tick, control))

    def _tick(self, control: Control) -> None:
        """Ask the control policy. One that raises is not asked again: the fleet goes on as it is."""
        if not self.where:
            self._ticking = False
            return
        try:
            actions = list(control.tick(self.view))
        except Exception as error:  # noqa: BLE001 - a policy is somebody else's code
            self.control_error = raised(control, "tick", error)
            return
        for action in actions:
            if not isinstance(action, Action):
                name = type(control).__name__
                self.control_error = f"{name}: tick() returned {action!r}: return actions"
                return
            self._do(action)
        self._later(control)

    def _do(self, action: Action) -> None:
        if isinstance(action, Migrate):
            if action.request_id in self.where:
                source, request = self.where[action.request_id]
                self.moves.begin(request, source, action.to, counts=True)
        elif isinstance(action, Retire):
            if any(name != action.instance for name in self.view.instances):
                self.view.remove(action.instance)
        elif isinstance(action, Enlist):
            self.view.enlist(action.instance)
        else:
            self._set_role(action.instance, action.role)

    def renew(self, name: str, port: InstancePort) -> None:
        """An instance that had stopped is back behind a new port; what was there has ended."""
        self.ports[name] = port
        self.view.restore(name)
        port.watch(partial(self.view.heard, name))

    def migrate(self, request_id: int, to: str) -> None:
        """Move a request with its KV to another instance; it stays where it is when that is not possible."""
        if request_id in self.where:
            source, request = self.where[request_id]
            self.moves.begin(request, source, to, counts=False)

    def placed(self, request: Request, instance: str) -> None:
        """A request was sent to an instance, or has moved there: tell who wants to know."""
        for hear in self._hear_places:
            hear(request, instance)

    def _set_role(self, instance: str, role: str) -> None:
        """Somebody must go on taking requests, and somebody decoding."""
        roles = [self.view.role(name) if name != instance else role for name in self.ports]
        if instance in self.ports and {MIXED, PREFILL} & {*roles} and {MIXED, DECODE} & {*roles}:
            self.moves.set_role(instance, role)

    def _replied(self, request: Request, why_not: str | None) -> None:
        if why_not is not None:
            self.ended(request, f"{REJECTED}: {why_not}")

    def drain(self, on_drained: Callable[[], None]) -> None:
        """Drain every instance, those that prefill for others first; call back after the last."""
        left = set(self.ports)
        first = {name for name in left if self.view.role(name) == PREFILL}

        def one(name: str) -> None:
            left.discard(name)
            first.discard(name)
            if not left:
                on_drained()
            elif not first:
                start(left - started)

        started: set[str] = set()

        def start(names: set[str]) -> None:
            started.update(names)
            for name in [name for name in self.ports if name in names]:
                self.ports[name].drain(partial(one, name))

        start(first or left)
