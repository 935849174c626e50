"""Least work: the instance with the least outstanding work, sent and not ended.

Source: join the shortest queue. Differs: `measure` chooses what counts as work: `requests`, or their
`prompt_tokens`; output lengths are not known to anybody.
"""

from dataclasses import dataclass

from headway.core import FleetView, Request


@dataclass
class LeastWork:
    """Option: what counts as work."""

    measure: str = "requests"

    def route(self, request: Request, view: FleetView) -> str:
        """The least loaded; ties go to the first."""
        del request
        return view.least_loaded(self.measure)
