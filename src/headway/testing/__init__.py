"""What headway's own tests use, for yours: small workloads, runs in two worlds, audits, policy conformance.

Imports neither torch nor hypothesis: `testing.tiny_model`, `testing.tiny_files` and `testing.strategies` do.
"""

from headway.testing.audit import audit
from headway.testing.conformance import (
    check_admission,
    check_batching,
    check_control,
    check_memory,
    check_ordering,
    check_policy,
    check_routing,
    check_speculation,
)
from headway.testing.fake_port import FakePort
from headway.testing.log import Log
from headway.testing.replay import Recording, replay
from headway.testing.runs import Run, Setup, run_live, run_sim
from headway.testing.small_workload import SmallWorkload, small_workload
from headway.testing.step_times import StepTimes

__all__ = [
    "FakePort",
    "Log",
    "Recording",
    "Run",
    "Setup",
    "SmallWorkload",
    "StepTimes",
    "audit",
    "check_admission",
    "check_batching",
    "check_control",
    "check_memory",
    "check_ordering",
    "check_policy",
    "check_routing",
    "check_speculation",
    "replay",
    "run_live",
    "run_sim",
    "small_workload",
]
