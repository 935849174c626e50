"""INV: leaping over repeats changes nothing that anybody can see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from headway.testing import Run, Setup, SmallWorkload, run_sim, small_workload
from headway.testing.strategies import setups, workloads

pytestmark = pytest.mark.slow
TWO_LANES = Path(__file__).parents[1] / "conformance" / "toys" / "two_lanes.py"
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def difference(leapt: Run, stepped: Run) -> str:
    for what in ("ends", "ends_ns", "tokens", "cached", "preemptions", "computed"):
        one, other = getattr(leapt.log, what), getattr(stepped.log, what)
        if one != other:
            return f"{what} differ: {one} and {other}"
    return ""


def check(workload: SmallWorkload, setup: Setup) -> None:
    leapt = run_sim(workload, replace(setup, leap=True))
    stepped = run_sim(workload, replace(setup, leap=False, audited=False))
    assert not difference(leapt, stepped)
    leapt.conserved()


@settings(max_examples=60, suppress_health_check=SLOW)
@given(workloads(), setups())
def test_leap_equals_step_to_the_nanosecond(workload: SmallWorkload, setup: Setup) -> None:
    check(workload, setup)


@settings(max_examples=25, suppress_health_check=SLOW)
@given(workloads(), setups(st.just(TWO_LANES)))
def test_leap_equals_step_on_two_lanes(workload: SmallWorkload, setup: Setup) -> None:
    check(workload, setup)


def test_leaping_saves_most_plans() -> None:
    workload = small_workload(1, 20, 1.0, prompt_tokens=(2000, 6000), output_tokens=(200, 400))
    plans = [run_sim(workload, Setup(leap=leap)).instances[0].steps for leap in (True, False)]
    assert plans[0] * 10 < plans[1]
