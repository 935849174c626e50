"""DualMap's hotspot moves: who waits where the TTFT SLO cannot be met goes to its other instance, if that helps.

Every period, at each instance whose queue holds somebody who would be late, those who wait are asked what the other
choice of their prefix would save them. In descending order of that benefit they move, while it is positive, while they
would be in time there, and until nobody here is late any more. Nobody moves twice, and who receives does not give.

It shares the books of `routing=dualmap`, which it meets when the fleet is made; with any other routing it does nothing.

Source: "DualMap: Enabling Both Cache Affinity and Load Balancing for Distributed LLM Serving", hotspot rebalancing.
Differs: a target is idle enough when the request would meet its own SLO there; the period is uncertain in the paper.
Cost: O(instances + waiting of hotspots) per tick.
"""

from collections.abc import Iterable, Sequence as Seq
from dataclasses import dataclass, field

from headway.core import NS_PER_MS, Action, FleetView, Migrate
from headway.policies.routing.dualmap import DualMap, Placed


@dataclass
class DualMapMoves:
    """Option: how often hotspots are looked for."""

    period_ms: float = 200.0
    _map: DualMap | None = field(default=None, init=False, repr=False)
    _moved: set[int] = field(default_factory=set, init=False, repr=False)

    @property
    def period_ns(self) -> int:
        """How often hotspots are looked for."""
        return round(self.period_ms * NS_PER_MS)

    def meet(self, routing: object) -> None:
        """The fleet's routing policy."""
        self._map = routing if isinstance(routing, DualMap) else None

    def on_end(self, request: object, outcome: str) -> None:
        """Forget who is not there any more."""
        del request, outcome
        if self._map is not None and len(self._moved) > 2 * len(self._map.placed):
            self._moved &= self._map.placed.keys()

    def tick(self, view: FleetView) -> Seq[Action]:
        """One round over the hotspots, the longest queue first."""
        if self._map is None:
            return ()
        self._map.tell_time(view.now_ns)
        pending = {name: self._map.pending_tokens(name, view) for name in view.instances}
        moves: list[Action] = []
        received: set[str] = set()
        for source in sorted(pending, key=lambda name: (-pending[name], name)):
            if source not in received:
                moves += self._relieve(self._map, source, view, pending, received)
        return moves

    def _relieve(
        self,
        books: DualMap,
        source: str,
        view: FleetView,
        pending: dict[str, int],
        received: set[str],
    ) -> list[Action]:
        """Moves away from one instance; `pending` follows them."""
        report, moves = view.report(source), list[Action]()
        found = [books.placed.get(request_id) for request_id, _ in report.queued]
        waiting = [item for item in found if item and item.instance == source]
        begun = books.computing_tokens(report)
        ahead = _ahead(waiting, begun)
        if not _late(waiting, ahead, view.now_ns):
            return moves
        offers = []
        for item in waiting:
            others = [name for name in item.choices if name in pending and name != source]
            if others and item.request.id not in self._moved:
                costs = {
                    name: pending[name] + books.tokens_left(item.request, name) for name in others
                }
                other = min(others, key=lambda name: (costs[name], name))
                offers.append((ahead[item.request.id] - costs[other], item.request.id, other))
        here = {item.request.id: item for item in waiting}
        for _, request_id, other in sorted(offers, key=lambda offer: (-offer[0], offer[1])):
            item = here[request_id]
            tokens = books.tokens_left(item.request, other)
            there = pending[other] + tokens  # others of this round are ahead of it
            if there >= ahead[request_id] or _misses(item, there, view.now_ns):
                continue
            moves.append(Migrate(request_id, other))
            self._moved.add(request_id)
            received.add(other)
            pending[other], pending[source] = there, pending[source] - item.tokens
            del here[request_id]
            ahead = _ahead(here.values(), begun)
            if not _late(here.values(), ahead, view.now_ns):
                break
        return moves


def _misses(item: Placed, tokens: int, now_ns: int) -> bool:
    """Would its first token come too late after so many prompt tokens?"""
    return tokens > (item.due_ns - now_ns) * item.pace


def _ahead(waiting: Iterable[Placed], begun: int) -> dict[int, int]:
    """Prompt tokens until each has its first token, in the order of the queue."""
    ahead = {}
    for item in waiting:
        begun += item.tokens
        ahead[item.request.id] = begun
    return ahead


def _late(waiting: Iterable[Placed], ahead: dict[int, int], now_ns: int) -> bool:
    return any(_misses(item, ahead[item.request.id], now_ns) for item in waiting)
