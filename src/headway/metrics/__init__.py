"""What a run was worth: records tokens and ends, sums them up, and defines every number."""

from headway.metrics.curves import curves
from headway.metrics.definitions import base_definitions, definitions
from headway.metrics.recorder import Recorder
from headway.metrics.saturation import offered_exceeds_capacity
from headway.metrics.summary import summarise

__all__ = [
    "Recorder",
    "base_definitions",
    "curves",
    "definitions",
    "offered_exceeds_capacity",
    "summarise",
]
