"""The executor that computes nothing: a timing model says when, a table of lengths says what."""

from headway.sim.acceptance import Acceptance
from headway.sim.outcomes import Lengths
from headway.sim.timed import Timed

__all__ = ["Acceptance", "Lengths", "Timed"]
