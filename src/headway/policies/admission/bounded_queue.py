"""Bounded queue: refuse when too many requests are in the fleet already.

A full queue turns every later answer into a late one; refusing at once lets the client go elsewhere.
"""

from dataclasses import dataclass

from headway.core import FleetView, Request


@dataclass
class BoundedQueue:
    """Option: most requests accepted and not ended, per instance."""

    max_requests: int = 256

    def admit(self, request: Request, view: FleetView) -> str | None:
        """Accept while there is room."""
        del request
        limit = self.max_requests * len(view.instances)
        if view.in_flight < limit:
            return None
        return f"{view.in_flight} requests are in the fleet, at most {limit}: retry later"
