"""Where time passes: `virtual` (an event heap) and `wall` (asyncio). Neither knows an executor."""

from headway.clocks.virtual import VirtualClock
from headway.clocks.wall import WallClock

__all__ = ["VirtualClock", "WallClock"]
