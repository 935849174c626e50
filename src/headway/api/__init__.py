"""Simulate and compare from Python: scenarios in, results with tables, pages and JSON out."""

from headway.api.assembly import Assembled, assemble
from headway.api.calibration import Calibration, calibrate
from headway.api.calls import compare, simulate
from headway.api.capacity_search import Capacity, capacity
from headway.api.change import Change
from headway.api.comparison import Comparison, compare_runs
from headway.api.decision_replay import Agreement, replay_decisions
from headway.api.demo_scenario import DEMO_CHOICES, DEMO_RATES, demo_scenario
from headway.api.result import Result
from headway.api.runner import Progress, run
from headway.api.scenario import Parts, Scenario
from headway.api.slo_text import SloBook, parse_slos
from headway.api.what_if import WhatIf, whatif

__all__ = [
    "DEMO_CHOICES",
    "DEMO_RATES",
    "Agreement",
    "Assembled",
    "Calibration",
    "Capacity",
    "Change",
    "Comparison",
    "Parts",
    "Progress",
    "Result",
    "Scenario",
    "SloBook",
    "WhatIf",
    "assemble",
    "calibrate",
    "capacity",
    "compare",
    "compare_runs",
    "demo_scenario",
    "parse_slos",
    "replay_decisions",
    "run",
    "simulate",
    "whatif",
]
