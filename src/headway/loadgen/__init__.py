"""Measures any OpenAI-compatible endpoint: sends a workload on schedule, and reports what clients saw."""

from headway.loadgen.endpoint import Endpoint, EndpointError, kind_of, root_of
from headway.loadgen.measured import Measured
from headway.loadgen.measuring import BenchPlan, bench

__all__ = [
    "BenchPlan",
    "Endpoint",
    "EndpointError",
    "Measured",
    "bench",
    "kind_of",
    "root_of",
]
