"""INV: requests, blocks and tokens are conserved, nothing comes before its cause, equal runs are equal."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from headway.testing import Setup, SmallWorkload, run_sim
from headway.testing.strategies import setups, steady_batchings, workloads

pytestmark = pytest.mark.slow
TOYS = sorted((Path(__file__).parents[1] / "conformance" / "toys").glob("*.py"))
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
any_batching = st.one_of(steady_batchings(), st.sampled_from(TOYS))


@settings(max_examples=60, suppress_health_check=SLOW)
@given(workloads(), setups(any_batching))
def test_conservation_causality_and_determinism(workload: SmallWorkload, setup: Setup) -> None:
    """Causality, budget and block ownership are asserted by the log and its audits on the way."""
    run = run_sim(workload, setup)
    run.conserved()
    assert run.log.audits == len(run.log.steps)
    again = run_sim(workload, setup)
    assert repr(run.log.steps) == repr(again.log.steps)
    assert repr((run.log.tokens, run.log.ends_ns)) == repr((again.log.tokens, again.log.ends_ns))
