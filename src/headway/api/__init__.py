"""Simulate and compare from Python: scenarios in, results with tables, pages and JSON out."""

from headway.api.assembly import Assembled, assemble
from headway.api.calls import compare, simulate
from headway.api.capacity_search import Capacity, capacity
from headway.api.comparison import Comparison, compare_runs
from headway.api.demo_scenario import DEMO_CHOICES, DEMO_RATES, demo_scenario
from headway.api.result import Result
from headway.api.runner import Progress, run
from headway.api.scenario import Parts, Scenario
from headway.api.slo_text import SloBook, parse_slos

__all__ = [
    "DEMO_CHOICES",
    "DEMO_RATES",
    "Assembled",
    "Capacity",
    "Comparison",
    "Parts",
    "Progress",
    "Result",
    "Scenario",
    "SloBook",
    "assemble",
    "capacity",
    "compare",
    "compare_runs",
    "demo_scenario",
    "parse_slos",
    "run",
    "simulate",
]
