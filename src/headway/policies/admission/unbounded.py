"""Accept everything: the queue grows as long as it must."""

from dataclasses import dataclass

from headway.core import FleetView, Request


@dataclass
class Unbounded:
    """Never says no."""

    def admit(self, request: Request, view: FleetView) -> str | None:
        """Accept."""
        del request, view
        return None
