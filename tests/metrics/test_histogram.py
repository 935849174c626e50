from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from headway.metrics.histogram import LogHistogram

VALUES = st.lists(st.integers(0, 10**14), min_size=1, max_size=200)
SHARES = [0.0, 0.25, 0.5, 0.9, 0.99, 1.0]


@given(VALUES)
def test_quantiles_are_those_of_numpy_within_a_tenth_of_a_percent(values: list[int]) -> None:
    histogram = LogHistogram()
    histogram.add(np.array(values, np.int64))
    exact = np.quantile(np.array(values, np.float64), SHARES)
    assert histogram.quantiles_ns(SHARES) == pytest.approx(exact.tolist(), rel=1e-3, abs=0.5)
    assert histogram.mean_ns == pytest.approx(sum(values) / len(values), rel=1e-12)


@given(VALUES, st.integers(0, 200))
def test_portions_and_order_do_not_matter(values: list[int], cut: int) -> None:
    whole, parts = LogHistogram(), LogHistogram()
    whole.add(np.array(values, np.int64))
    parts.add(np.array(values[cut:][::-1], np.int64))
    parts.add(np.array(values[:cut], np.int64))
    assert parts.quantiles_ns(SHARES) == whole.quantiles_ns(SHARES)
    assert (parts.mean_ns, parts.std_ns) == (whole.mean_ns, whole.std_ns)
    merged = LogHistogram.merged([parts, whole])
    assert merged.count == 2 * len(values)
    assert merged.mean_ns == whole.mean_ns


@given(st.lists(st.tuples(st.integers(0, 10**10), st.integers(1, 50)), min_size=1, max_size=40))
def test_a_run_counts_as_often_as_it_says(runs: list[tuple[int, int]]) -> None:
    weighted, spelled = LogHistogram(), LogHistogram()
    gaps, counts = (np.array(column, np.int64) for column in zip(*runs, strict=True))
    weighted.add(gaps, counts)
    spelled.add(np.repeat(gaps, counts))
    assert weighted.quantiles_ns(SHARES) == spelled.quantiles_ns(SHARES)
    assert (weighted.count, weighted.total_ns) == (spelled.count, spelled.total_ns)


def test_equal_values_have_no_spread() -> None:
    histogram = LogHistogram()
    histogram.add(np.full(1000, 20_123_457, np.int64))
    assert histogram.std_ns == 0.0


def test_an_empty_histogram_has_no_numbers() -> None:
    histogram = LogHistogram()
    assert histogram.quantiles_ns([0.5]) == [None]
    assert histogram.mean_ns is None
    assert histogram.std_ns is None
    assert all(len(axis) == 0 for axis in histogram.cdf(10))


@given(VALUES)
def test_the_cdf_rises_to_one(values: list[int]) -> None:
    histogram = LogHistogram()
    histogram.add(np.array(values, np.int64))
    at, shares = histogram.cdf(50)
    assert (np.diff(at) > 0).all()
    assert (np.diff(shares) > 0).all()
    assert shares[-1] == pytest.approx(1.0)
    assert at[-1] == pytest.approx(max(values), rel=1e-3, abs=0.5)
