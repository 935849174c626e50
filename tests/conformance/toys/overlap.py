"""Sarathi, planned one step ahead of its results."""

from dataclasses import dataclass, field

from headway.policies.batching.sarathi import Sarathi


@dataclass
class Overlap(Sarathi):
    """Two steps in flight."""

    lanes: dict[str, int] = field(default_factory=lambda: {"main": 2}, init=False)
