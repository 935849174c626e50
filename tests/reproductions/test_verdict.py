"""The rule, by its own words."""

from math import exp, inf, log

import pytest
from hypothesis import given, strategies as st

from headway.errors import OptionError
from headway.reproductions import NOT_REPRODUCED, PARTLY, REPRODUCED, claims, judge
from headway.reproductions.capacity_of import capacity_of
from headway.reproductions.verdict import gains, interval

FLAT = [1.0, 1.01, 0.99, 1.0, 1.0]
NEAR = st.floats(0.5, 8.0)


def test_rule() -> None:
    clear = [2.0, 2.1, 1.9, 2.0, 2.05]
    assert judge(clear, FLAT, 3.0).verdict == REPRODUCED  # half of 3 in logs is 1.73
    assert judge(clear, FLAT, 5.0).verdict == PARTLY  # 2.24
    assert judge(clear, [1.1] * 5, 3.0).verdict == NOT_REPRODUCED
    assert judge([0.5, 2.0, 4.0, 0.9, 1.1], FLAT, 1.2).verdict == NOT_REPRODUCED
    with pytest.raises(OptionError, match="needs 5"):
        judge(clear[:4], FLAT, 3.0)


@given(st.lists(NEAR, min_size=5, max_size=9), st.floats(1.05, 12.0))
def test_every_verdict_follows_from_its_three_conditions(paired: list[float], paper: float) -> None:
    verdict = judge(paired, FLAT, paper)
    low, high = interval(paired)
    assert low <= verdict.gain <= high
    better, enough = low > 1, log(verdict.gain) >= log(paper) / 2
    assert verdict.verdict == (
        REPRODUCED if better and enough else PARTLY if better else NOT_REPRODUCED
    )
    assert bool(verdict.reasons) == (verdict.verdict != REPRODUCED)


@given(st.lists(st.tuples(NEAR, NEAR), min_size=1, max_size=6))
def test_gains_turn_around_with_the_direction_of_the_metric(
    pairs: list[tuple[float, float]],
) -> None:
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    up = gains(ours, theirs, higher_is_better=True)
    down = gains(ours, theirs, higher_is_better=False)
    assert all(abs(a * b - 1) < 1e-9 for a, b in zip(up, down, strict=True))


def test_worth_nothing() -> None:
    assert gains([0, 0, 1], [0, 1, 0], higher_is_better=True) == [1.0, 0.0, inf]
    assert judge([inf] * 5, FLAT, 2.0).verdict == REPRODUCED
    assert judge([0.0] * 5, FLAT, 2.0).verdict == NOT_REPRODUCED


@given(st.floats(0.01, 500.0))
def test_capacity_is_found_from_below(knee: float) -> None:
    found = capacity_of(lambda rate: 1.0 if rate <= knee else 0.5, first=5.0)
    assert found <= knee
    assert knee / found < exp(log(2) / 32)


def test_claims_are_the_registered_ones() -> None:
    assert all(claim.paper_gain > 1 for claim in claims().values())
    assert {"sarathi", "flowprefill", "dllm_serve"} <= set(claims())
