"""Arrival processes give back the numbers they were built from."""

from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from headway.core import NS_PER_S
from headway.errors import OptionError
from headway.workload import Arrivals, Bursts, Constant, Diurnal, Gamma, Poisson
from headway.workload.describe import dispersion, gamma_shape
from headway.workload.modulated import Segment, warp

MANY = 100_000


def times_of(arrivals: Arrivals, count: int, seed: int = 0) -> list[int]:
    return list(islice(arrivals.times(np.random.default_rng(seed)), count))


def gaps_s(arrivals: Arrivals) -> np.ndarray:
    return np.diff(np.array([0, *times_of(arrivals, MANY)])) / NS_PER_S


@pytest.mark.parametrize(
    ("arrivals", "rate", "cv", "shape"),
    [
        (Poisson(5.53), 5.53, 1.0, 1.0),
        (Gamma(2.0, 0.5), 2.0, 0.5, 4.0),
        (Gamma(1.0, 2**0.5), 1.0, 2**0.5, 0.5),  # BurstGPT's demonstration: alpha 0.5, beta 2
        # Not much faster: of such gaps, those below 1 ns (1.7 % at 300 rps) round to ties.
        (Gamma(1.0, 2.0), 1.0, 2.0, 0.25),
    ],
)
def test_rate_cv_and_gamma_shape_are_recovered(
    arrivals: Arrivals, rate: float, cv: float, shape: float
) -> None:
    gaps = gaps_s(arrivals)
    assert 1 / gaps.mean() == pytest.approx(rate, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)
    assert gamma_shape(gaps[gaps > 0]) == pytest.approx(shape, rel=0.05)


def test_constant_arrivals_do_not_drift() -> None:
    times = times_of(Constant(3.0), 300_000)
    assert times[2] == NS_PER_S
    assert times[-1] == 100_000 * NS_PER_S
    assert {b - a for a, b in pairwise(times)} == {333_333_333, 333_333_334}


def test_burstier_arrivals_have_a_larger_index_of_dispersion() -> None:
    found = [
        dispersion(np.array(times_of(arrivals, 20_000)) / NS_PER_S, 1.0)
        for arrivals in (Constant(10), Gamma(10, 0.5), Poisson(10), Gamma(10, 2))
    ]
    assert found == sorted(found)
    assert found[0] < 0.001
    assert found[2] == pytest.approx(1, rel=0.05)


def test_bursts_reach_their_mean_rate_and_are_overdispersed() -> None:
    bursts = Bursts(on_rps=40, off_rps=2, on_s=0.5, off_s=1.5)
    times = np.array(times_of(bursts, MANY)) / NS_PER_S
    assert bursts.rate_rps == 11.5
    assert MANY / times[-1] == pytest.approx(11.5, rel=0.05)
    assert dispersion(times, 1.0) > 5


def test_silence_between_bursts_is_silent() -> None:
    """With a rate of 0 in between, points lie in bursts only: many long gaps, the rest short ones."""
    times = times_of(Bursts(on_rps=1000, off_rps=0, on_s=1, off_s=100), 20_000)
    long = [b - a for a, b in pairwise(times) if b - a > NS_PER_S // 10]
    assert 10 <= len(long) <= 30  # 20,000 points of 1,000 a burst
    assert sum(long) > 0.9 * (times[-1] - times[0])


def test_a_day_follows_its_curve_and_its_mean() -> None:
    day_s = 86_400
    diurnal = Diurnal(1.0)
    times = np.array(times_of(diurnal, MANY * 2)) / NS_PER_S
    first = times[times < day_s]
    assert len(first) == pytest.approx(day_s, rel=0.02)
    hours = np.histogram(first, bins=24, range=(0, day_s))[0] / 3600
    expected = [np.mean([diurnal.rate_at(h + m / 60) for m in range(60)]) for h in range(24)]
    np.testing.assert_allclose(hours, expected, atol=0.08)
    assert hours[15] > 20 * hours[5]
    assert hours[12] < 0.7 * hours[10]


def test_weekends_are_quieter_and_a_week_later_it_is_monday_again() -> None:
    diurnal = Diurnal(20.0, day_s=100.0, weekend=0.5)
    days = np.bincount(np.array(times_of(diurnal, 14_000)) // (100 * NS_PER_S))[:7]
    np.testing.assert_allclose(days, [2000] * 5 + [1000] * 2, rtol=0.1)


def test_a_day_may_start_in_the_middle_of_a_segment_and_be_a_function() -> None:
    diurnal = Diurnal(10.0, curve=lambda hour: hour, start_hour=12.25, day_s=2400.0)
    half = np.array(times_of(diurnal, 40_000)) / NS_PER_S
    rest_s = (24 - 12.25) * 100
    expected = 10.0 * rest_s * (12.25 + 24) / 2 / 12  # mean weight 12
    assert (half < rest_s).sum() == pytest.approx(expected, rel=0.03)


def test_a_day_may_start_within_a_straight_piece_of_its_curve() -> None:
    diurnal = Diurnal(10.0, curve=((0, 0), (24, 1)), start_hour=18.0, day_s=2400.0)
    times = np.array(times_of(diurnal, 30_000)) / NS_PER_S
    rest_s = 600.0
    assert (times < rest_s).sum() == pytest.approx(rest_s * 10 * 2 * 7 / 8, rel=0.03)


def test_gaps_of_a_flat_day_have_the_chosen_cv() -> None:
    gaps = gaps_s(Diurnal(5.0, cv=2.0, curve=((0, 1), (24, 1))))
    assert gaps.std() / gaps.mean() == pytest.approx(2, rel=0.05)


@given(
    st.lists(
        st.tuples(st.floats(0.01, 50), st.floats(0, 30), st.floats(0, 30)), min_size=1, max_size=8
    )
)
def test_a_warped_point_lies_where_the_integral_of_the_rate_reaches_it(
    raw: list[tuple[float, float, float]],
) -> None:
    segments = [Segment(*values) for values in raw]
    times = list(warp(iter([1.0] * 20_000), segments))
    assert times == sorted(times)
    for number, time_ns in enumerate(times, 1):
        assert integral(segments, time_ns / NS_PER_S) == pytest.approx(number, abs=1e-5)
    total = sum(s.length_s * (s.start_rps + s.end_rps) / 2 for s in segments)
    assert abs(total - len(times) - 0.5) <= 0.5 + 1e-6


def integral(segments: list[Segment], until_s: float) -> float:
    area = 0.0
    for length_s, start_rps, end_rps in segments:
        part_s = min(until_s, length_s)
        at_end = start_rps + (end_rps - start_rps) * part_s / length_s
        area += part_s * (start_rps + at_end) / 2
        until_s -= part_s
    return area


ALL = [Poisson(7), Gamma(7, 3), Constant(7), Diurnal(7, cv=2), Bursts(50, 1, 1, 3)]


@settings(max_examples=10)
@given(st.integers(0, 2**32))
@pytest.mark.parametrize("arrivals", ALL, ids=lambda a: type(a).__name__)
def test_times_are_whole_never_fall_and_repeat_with_the_seed(arrivals: Arrivals, seed: int) -> None:
    times = times_of(arrivals, 6000, seed)
    assert all(type(t) is int for t in times)
    assert times[0] >= 0
    assert times == sorted(times)
    assert times == times_of(arrivals, 6000, seed)


@pytest.mark.parametrize(
    "arrivals", [ALL[0], ALL[1], ALL[3], ALL[4]], ids=lambda a: type(a).__name__
)
def test_another_seed_gives_other_times(arrivals: Arrivals) -> None:
    assert times_of(arrivals, 10, 1) != times_of(arrivals, 10, 2)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Poisson(0),
        lambda: Poisson(float("nan")),
        lambda: Gamma(1, 0),
        lambda: Constant(float("inf")),
        lambda: Bursts(1, -1, 1, 1),
        lambda: Diurnal(1, start_hour=24),
        lambda: Diurnal(1, curve=((0, 1), (23, 1))),
        lambda: Diurnal(1, curve=((0, 1), (12, -1), (24, 1))),
        lambda: Diurnal(1, curve=((0, 0), (24, 0))),
    ],
)
def test_impossible_processes_are_refused(build: object) -> None:
    with pytest.raises(OptionError, match=r".+: |.+, "):
        build()  # type: ignore[operator]
