"""Requests between two instances, as the fleet sees it: part by part, and owned by one side at any time.

export_to -> import_from, again and again until the last part; then end_export, and only when the source has
forgotten the sequence end_import. A refusal or an end on the way undoes it: the sequence goes on at its source.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from headway.core.fleet import DECODE, MIXED, NEVER, PREFILL, Handoff
from headway.core.protocols import WAKE, MovingPort
from headway.core.request import Request
from headway.runtime.blame import raised

if TYPE_CHECKING:
    from headway.runtime.fleet import Fleet

_REFUSALS = 32  # hand-overs of one instance that are asked for in vain before its others must wait


class Move:
    """One request on its way. Its load counts at `to` already."""

    __slots__ = ("aborted", "changes", "computed", "counts", "request", "source", "to")

    def __init__(
        self, request: Request, ends: tuple[str, str], *, counts: bool, computed: bool
    ) -> None:
        self.request = request
        self.source, self.to = ends
        self.counts = counts  # among the migrations that an instance may have at once
        self.computed = computed  # it waited to be handed over
        self.changes = 0  # when it began
        self.aborted = False


class FleetMoves:
    """All moves of a fleet, and the computed prompts that wait for an instance to decode them."""

    def __init__(self, fleet: Fleet, ports: dict[str, MovingPort], moves_at_once: int) -> None:
        self._fleet, self._ports, self._at_once = fleet, ports, moves_at_once
        self.under_way: dict[int, Move] = {}
        self.computed: dict[int, str] = {}  # request -> where its prompt was computed, oldest first
        self._retrying = False
        self._changes = 0  # so far, of what may turn a refusal into a yes
        self.hand_over_error = ""  # what the routing policy's hand_over did wrong, the first time
        self._hand_over = getattr(fleet.routing, "hand_over", None)
        for name, port in ports.items():
            port.watch_computed(partial(self._prompt_computed, name))

    # -- prompts that were computed --------------------------------------------------------------------------------

    def _prompt_computed(self, source: str, request: Request) -> None:
        move = self.under_way.get(request.id)
        if move is not None:
            move.computed = move.computed or move.source == source  # should it stay there
        elif request.id in self._fleet.where:
            self.computed[request.id] = source
            self.retry()

    def retry(self) -> None:
        """Something has changed: ask again for all who wait, and for those who are being refused just now."""
        self._changes += 1
        self._retry_soon()

    def _retry_soon(self) -> None:
        """Not inside what has changed."""
        if self.computed and not self._retrying:
            self._retrying = True
            clock = self._fleet.clock
            clock.call_at(clock.now_ns(), self._retry, WAKE)

    def _retry(self) -> None:
        self._retrying = False
        view = self._fleet.view
        if not view.of_role(DECODE) and not view.of_role(MIXED):
            for source in set(self.computed.values()):
                self.set_role(source, MIXED)  # nobody else decodes
            return
        refused: set[str] = set()
        everybody = {*view.of_role(DECODE), *view.of_role(MIXED)}
        in_vain: dict[str, int] = {}  # by source: one may have another choice than the next
        for request_id, source in list(self.computed.items()):
            if self.computed.get(request_id) != source or request_id not in self._fleet.where:
                self.computed.pop(request_id, None)
                continue
            if in_vain.get(source, 0) == _REFUSALS:
                continue
            request = self._fleet.where[request_id][1]
            to = self._choose(request, source)
            if to is not None and to not in refused:
                self.begin(request, source, to, counts=False)
                if request_id in self.computed:  # it was refused at once
                    refused.add(to)
                else:
                    continue
            in_vain[source] = in_vain.get(source, 0) + 1
            if refused >= everybody:
                break

    def _choose(self, request: Request, source: str) -> str | None:
        """Ask the policy, or take the least loaded. A policy that fails is replaced from then on."""
        view = self._fleet.view
        if self._hand_over is not None:
            try:
                to: str | None = self._hand_over(request, view)
                if to is None or (to in self._ports and to != source):
                    return to
                known = ", ".join(self._ports)
                error = f"{type(self._fleet.routing).__name__}: handed over to {to!r}"
                self.hand_over_error = f"{error} ({known}, and not where it is)"
            except Exception as error:  # noqa: BLE001 - a policy is somebody else's code
                self.hand_over_error = raised(self._fleet.routing, "hand_over", error)
            self._hand_over = None
        names = view.of_role(DECODE) or view.of_role(MIXED)
        return min(names, key=view.load)

    # -- one move ----------------------------------------------------------------------------------------------------

    def begin(self, request: Request, source: str, to: str, *, counts: bool) -> None:
        """Start moving a request, or leave it where it is."""
        if request.id in self.under_way or not {source, to} <= self._ports.keys() or source == to:
            return
        if counts and max(self._count(source), self._count(to)) >= self._at_once:
            return
        computed = self.computed.pop(request.id, None) is not None
        move = Move(request, (source, to), counts=counts, computed=computed)
        move.changes = self._changes
        self.under_way[request.id] = move
        self._fleet.view.moved(source, to, request)
        if computed:  # nothing is copied before somebody has room for it
            self._ports[to].ask_import(request, partial(self._asked, move))
        else:
            self._next(move)

    def _asked(self, move: Move, why_not: str | None) -> None:
        if self.under_way.get(move.request.id) is not move:
            return
        if why_not is not None or not self._lives(move):
            changed = move.changes != self._changes
            self._undo(move, never=(why_not or "").startswith(NEVER))
            if changed:  # the answer was older than that
                self._retry_soon()
        else:
            self._next(move)

    def _count(self, instance: str) -> int:
        return sum(m.counts and instance in (m.source, m.to) for m in self.under_way.values())

    def _next(self, move: Move) -> None:
        on_ready = partial(self._exported, move)
        self._ports[move.source].export_to(move.request.id, move.to, on_ready)

    def _lives(self, move: Move) -> bool:
        return move.request.id in self._fleet.where

    def _exported(self, move: Move, handoff: Handoff | None) -> None:
        if self.under_way.get(move.request.id) is not move:
            return
        if handoff is None or not self._lives(move):
            self._undo(move)
            self.retry()
            return
        reply = partial(self._imported, move, handoff)
        self._ports[move.to].import_from(move.request, handoff, move.source, reply)

    def _imported(self, move: Move, handoff: Handoff, why_not: str | None) -> None:
        if self.under_way.get(move.request.id) is not move:
            return
        if why_not is not None or not self._lives(move):
            self._undo(move, never=(why_not or "").startswith(NEVER))
            self.retry()  # what it had reserved is free again
        elif handoff.last:
            gone = partial(self._gone, move)
            self._ports[move.source].end_export(move.request.id, gone, gone=True)
        else:
            self._next(move)

    def _gone(self, move: Move, gone: bool) -> None:
        if self.under_way.get(move.request.id) is not move:
            return
        if not gone:
            self._undo(move)
            self.retry()
            return
        request, to = move.request, self._ports[move.to]
        del self.under_way[request.id]
        self._fleet.where[request.id] = (move.to, request)
        self.computed.pop(request.id, None)
        to.end_import(request.id, commit=True)
        if move.aborted:
            to.abort(request.id)
        self._fleet.placed(request, move.to)
        self.retry()

    def _undo(self, move: Move, *, never: bool = False) -> None:
        request, source = move.request, move.source
        del self.under_way[request.id]
        self._ports[move.to].end_import(request.id, commit=False)
        self._ports[source].end_export(request.id, lambda _: None, gone=False)
        if not self._lives(move):
            return
        self._fleet.view.moved(move.to, source, request)
        if not move.computed:
            return
        if never:
            self._ports[source].abort(request.id)
        elif self._fleet.view.role(source) == PREFILL:
            self.computed[request.id] = source

    # -- from the fleet ----------------------------------------------------------------------------------------------

    def set_role(self, instance: str, role: str) -> None:
        """The instance ends what it has; computed prompts go on there unless it prefills."""
        if role != PREFILL:
            for request_id in [n for n, source in self.computed.items() if source == instance]:
                del self.computed[request_id]
        self._fleet.view.set_role(instance, role)
        if instance in self._ports:
            self._ports[instance].set_role(role)
        self.retry()

    def ended(self, request: Request) -> str | None:
        """A request has ended; where its load counts when it was moving."""
        self.computed.pop(request.id, None)
        move = self.under_way.get(request.id)
        return None if move is None else move.to
