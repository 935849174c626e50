"""First come, first served."""

from dataclasses import dataclass
from typing import ClassVar

from headway.core import Sequence


@dataclass
class Fcfs:
    """By arrival."""

    dynamic: ClassVar[bool] = False

    def key(self, sequence: Sequence) -> tuple[float, ...]:
        """Arrival, then id."""
        request = sequence.request
        return (request.arrival_ns, request.id)
