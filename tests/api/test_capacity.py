import pytest

import headway
from headway.api import Scenario, capacity
from headway.api.capacity_search import TOLERANCE, attainment_at
from headway.api.scenario import NO_PARTS
from headway.errors import OptionError
from headway.workload import conversation_like

SCENARIO = Scenario(requests=120, slo=("ttft=300ms,tpot=30ms",))


def test_the_answer_keeps_the_target_and_a_little_more_does_not() -> None:
    found = capacity(SCENARIO)
    assert found.rate_rps is not None
    assert found.failed_rps is not None
    assert found.rate_rps < found.failed_rps <= found.rate_rps * (1 + TOLERANCE)
    assert attainment_at(SCENARIO, NO_PARTS, found.rate_rps) >= 0.9
    assert attainment_at(SCENARIO, NO_PARTS, found.failed_rps) < 0.9
    assert dict(found.tried)[found.rate_rps] >= 0.9


def test_where_the_search_starts_hardly_matters() -> None:
    rates = [capacity(SCENARIO.at(rate_rps=rate)).rate_rps for rate in (1.0, 30.0, 400.0)]
    assert max(rates) <= min(rates) * (1 + 2 * TOLERANCE)  # type: ignore[type-var, operator]


def test_promising_less_or_having_more_never_costs_capacity() -> None:
    tight, loose = (
        capacity(SCENARIO.at(slo=(slo,))).rate_rps
        for slo in ("ttft=300ms,tpot=20ms", "ttft=2s,tpot=60ms")
    )
    one, two = (capacity(SCENARIO.at(instances=n)).rate_rps for n in (1, 2))
    assert tight is not None and loose is not None and one is not None and two is not None
    assert tight <= loose
    assert 1.5 * one < two


def test_an_impossible_promise_has_no_capacity_and_none_no_limit() -> None:
    impossible = capacity(SCENARIO.at(slo=("ttft=1us",)))
    assert impossible.rate_rps == 0
    assert "cannot be kept at any rate" in impossible.note
    anything = capacity(SCENARIO.at(slo=("none",)))
    assert anything.rate_rps is None
    assert "almost at once" in anything.note


def test_jobs_do_not_change_the_answer() -> None:
    small = SCENARIO.at(requests=30)
    assert capacity(small, jobs=3).rate_rps == capacity(small).rate_rps


def test_simulate_reports_it() -> None:
    result = headway.simulate(requests=40, capacity=True)
    assert result.summary["capacity_rps"] > 5
    assert "capacity" in result.table()


@pytest.mark.parametrize("change", [{"concurrency": 4}, {"sessions": True}])
def test_what_has_no_rate_has_no_capacity(change: dict[str, object]) -> None:
    with pytest.raises(OptionError, match="capacity"):
        capacity(SCENARIO.at(**change))


def test_a_workload_object_has_no_rate() -> None:
    with pytest.raises(OptionError, match="workload object"):
        headway.simulate(workload=conversation_like(requests=5), capacity=True)


def test_a_target_is_a_share() -> None:
    with pytest.raises(OptionError, match="90"):
        capacity(SCENARIO, target=90)
