"""Power of two choices: look at two instances at random, take the less loaded.

Source: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 2001.
Differs: none; `choices` may be more than two.
"""

from dataclasses import dataclass

from headway.core import FleetView, Request


@dataclass
class TwoChoices:
    """Options: how many to look at, and what counts as work."""

    choices: int = 2
    measure: str = "requests"

    def route(self, request: Request, view: FleetView) -> str:
        """The less loaded of a few distinct ones drawn at random."""
        del request
        instances = view.instances
        if len(instances) <= self.choices:
            return min(instances, key=lambda name: view.load(name, self.measure))
        drawn = view.rng.sample(range(len(instances)), self.choices)
        return min((instances[n] for n in drawn), key=lambda name: view.load(name, self.measure))
