"""Round robin: each instance in turn, blind to load."""

from dataclasses import dataclass, field

from headway.core import FleetView, Request


@dataclass
class RoundRobin:
    """In turn."""

    _next: int = field(default=0, init=False, repr=False)

    def route(self, request: Request, view: FleetView) -> str:
        """The next instance."""
        del request
        instances = view.instances
        self._next = (self._next + 1) % len(instances)
        return instances[self._next - 1]
