"""Many instances behind ports: admission, routing, and exactly one outcome for every request.

Holds no Instance. One instance is a fleet of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from random import Random

from headway.core.fleet import ABORTED, REJECTED, Handoff
from headway.core.protocols import Admission, Clock, InstancePort, Routing, TimingModel
from headway.core.request import Request
from headway.errors import HeadwayError, PlanError
from headway.runtime.fleet_view import LiveFleetView

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
    ) -> None:
        self.clock, self.ports = clock, dict(ports)
        self.admission, self.routing = policies
        self._on_end = on_end
        rng = Random(seed)
        self.view = LiveFleetView(clock, list(ports), rng, timing)
        self._where: dict[int, tuple[str, Request]] = {}
        self._moving: set[int] = set()
        for name, port in ports.items():
            port.watch(partial(self.view.heard, name))

    def submit(self, request: Request) -> None:
        """Admit, route and send a request; it ends through `on_end`, whatever happens."""
        if request.supersedes is not None:
            self.abort(request.supersedes)
        name, why_not = self._place(request)
        if why_not is not None:
            self._on_end(request, f"{REJECTED}: {why_not}")
            return
        self._where[request.id] = (name, request)
        self.view.sent(name, request)
        self.ports[name].submit(request, partial(self._replied, request))

    def _place(self, request: Request) -> tuple[str, str | None]:
        """Ask the policies: an instance, or why not. What they raise refuses this request and no other."""
        policy: object = self.admission
        try:
            why_not = self.admission.admit(request, self.view)
            if why_not is not None:
                return "", why_not
            if not self.view.instances:
                return "", f"every instance has stopped: {self.view.stopped or 'no reason given'}"
            policy = self.routing
            return self._route(request), None
        except HeadwayError as error:
            return "", str(error)
        except Exception as error:  # noqa: BLE001 - a policy is somebody else's code
            return "", f"{type(policy).__name__} raised {type(error).__name__}: {error}"

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
        if request_id in self._where:
            self.ports[self._where[request_id][0]].abort(request_id, outcome)

    def ended(self, request: Request, outcome: str) -> None:
        """An instance ended a request. Heard at least once; counts once."""
        where = self._where.pop(request.id, None)
        if where:
            self.view.ended(where[0], request)
            self._on_end(request, outcome)

    def renew(self, name: str, port: InstancePort) -> None:
        """An instance that had stopped is back behind a new port; what was there has ended."""
        self.ports[name] = port
        self.view.restore(name)
        port.watch(partial(self.view.heard, name))

    def migrate(self, request_id: int, to: str) -> None:
        """Move a request with its KV to another instance; it stays where it is when that is not possible."""
        if request_id in self._where and request_id not in self._moving and to in self.ports:
            source, request = self._where[request_id]
            if source != to:
                self._moving.add(request_id)
                self.ports[source].export_to(
                    request_id, to, partial(self._exported, request, source, to)
                )

    def _exported(self, request: Request, source: str, to: str, handoff: Handoff | None) -> None:
        self._moving.discard(request.id)
        if handoff is None or request.id not in self._where:
            return
        self._move(request, source, to)
        self.ports[to].import_from(
            request, handoff, source, partial(self._imported, request, source, to, handoff)
        )

    def _imported(
        self, request: Request, source: str, to: str, handoff: Handoff, why_not: str | None
    ) -> None:
        if why_not is None:
            return
        if source == to:  # not even back where it came from: its KV is lost
            self.ended(request, f"{ABORTED}: {why_not}")
            return
        self._move(request, to, source)
        self.ports[source].import_from(
            request, handoff, source, partial(self._imported, request, source, source, handoff)
        )

    def _move(self, request: Request, source: str, to: str) -> None:
        if request.id in self._where:
            self.view.ended(source, request)
            self.view.sent(to, request)
            self._where[request.id] = (to, request)

    def _replied(self, request: Request, why_not: str | None) -> None:
        if why_not is not None:
            self.ended(request, f"{REJECTED}: {why_not}")

    def drain(self, on_drained: Callable[[], None]) -> None:
        """Drain every instance; call back after the last."""
        left = set(self.ports)

        def one(name: str) -> None:
            left.discard(name)
            if not left:
                on_drained()

        for name, port in self.ports.items():
            port.drain(partial(one, name))
