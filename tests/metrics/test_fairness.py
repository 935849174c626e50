from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from headway.metrics import summarise
from headway.metrics.fairness import ServiceLag, entitlements, jain_index

from .runs import Run

AMOUNTS = st.lists(st.floats(0, 1e12), min_size=1, max_size=30)


@given(AMOUNTS)
def test_jain_lies_between_one_over_n_and_one(shares: list[float]) -> None:
    assert 1 / len(shares) - 1e-9 <= jain_index(shares) <= 1 + 1e-9


@given(AMOUNTS, st.floats(0.01, 1e3))
def test_jain_ignores_scale(shares: list[float], scale: float) -> None:
    assert jain_index([scale * share for share in shares]) == pytest.approx(jain_index(shares))


def test_jain_at_its_ends() -> None:
    assert jain_index([3, 3, 3]) == 1
    assert jain_index([7, 0, 0, 0]) == 0.25


@given(
    st.lists(st.tuples(st.floats(0, 1e9), st.floats(0.1, 10)), min_size=1, max_size=20),
    st.floats(0, 1e10),
)
def test_entitlements_are_max_min_fair(tenants: list[tuple[float, float]], total: float) -> None:
    demands, weights = [d for d, _ in tenants], [w for _, w in tenants]
    shares = entitlements(demands, total, weights)
    assert sum(shares) == pytest.approx(min(total, sum(demands)), rel=1e-6, abs=1e-6)
    level = max((share / weight for share, weight in zip(shares, weights, strict=True)), default=0)
    for share, demand, weight in zip(shares, demands, weights, strict=True):
        assert share <= demand + 1e-6
        satisfied = share == pytest.approx(demand, rel=1e-6, abs=1e-6)
        assert satisfied or share / weight == pytest.approx(
            level, rel=1e-4
        )  # whoever lacks is at the top level


def starved(*, favour: bool) -> Run:
    run = Run()
    for tenant in "ab":
        for index in range(10):
            request = run.offer(index, tenant=tenant, prompt=100)
            if tenant == "a" or not favour:
                run.answer(request, [20 + index, 30 + index])
            else:
                run.reject(request)
    return run


def test_a_starved_tenant_lowers_the_index() -> None:
    even, uneven = (summarise(starved(favour=favour).recorder) for favour in (False, True))
    assert even["jain_tokens"] == 1.0
    assert uneven["jain_tokens"] == 0.5
    assert uneven["worst_tenant_attainment"] == 0.0
    assert uneven["by_tenant"]["b"]["served_tokens"] == 0
    assert uneven["by_tenant"]["b"]["entitled_tokens"] == pytest.approx(510)


def test_asking_for_little_and_getting_it_is_fair() -> None:
    run = Run()
    for index in range(20):
        run.answer(run.offer(index, tenant="heavy", prompt=1000), [30 + index, 40 + index])
    run.answer(run.offer(5, tenant="light"), [40, 50])
    assert summarise(run.recorder)["jain_tokens"] == 1.0


def test_weights_entitle_to_more() -> None:
    run = starved(favour=False)
    for tenant in "aab":
        run.reject(run.offer(50, tenant=tenant, prompt=4000))
    plain = summarise(run.recorder)
    weighted = summarise(run.recorder, weights={"a": 3.0, "b": 1.0})
    assert plain["jain_tokens"] == 1.0
    assert weighted["jain_tokens"] < 0.9
    assert weighted["by_tenant"]["a"]["entitled_tokens"] == pytest.approx(1530)


def test_one_tenant_has_no_fairness() -> None:
    run = Run()
    run.answer(run.offer(), [1, 2])
    summary = summarise(run.recorder)
    assert summary["jain_tokens"] is None
    assert summary["max_service_lag_tokens"] is None


def test_service_lag_is_the_drift_while_both_wait() -> None:
    lag = ServiceLag()
    second = 10**9
    lag.sample(0, [0, 500], [True, True])  # what was before does not count
    lag.sample(second, [100, 520], [True, True])
    assert lag.max_tokens == 80
    lag.sample(2 * second, [1000, 520], [True, False])  # b wants nothing: may fall behind
    lag.sample(3 * second, [1100, 600], [True, True])
    lag.sample(4 * second, [1100, 650, 0], [True, True, True])
    assert lag.max_tokens == 80
    lag.sample(5 * second, [1200, 650, 300], [True, True, True])
    assert lag.max_tokens == 300


def test_service_lag_of_a_run_in_which_one_tenant_is_passed_over() -> None:
    run = Run()
    for tenant in "ab":
        for _ in range(20):
            run.offer(0, tenant=tenant)
    for index, sequence in enumerate(list(run.sequences.values())[:15]):
        run.answer(sequence, [1000 * index + 500, 1000 * index + 900])
    lag = summarise(run.recorder)["max_service_lag_tokens"]
    assert 14 * 12 - 12 <= lag <= 15 * 12
