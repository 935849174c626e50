"""Energy stays between idle and TDP, adds up, and says when it is a guess."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from headway.timing import EnergyCoefficients, energy_j, load_device, load_model

MODEL, DEVICE = load_model("llama-3.1-8b"), load_device("h100")


@given(
    wall_ns=st.integers(0, 10**13),
    flops=st.floats(0, 1e20),
    moved=st.floats(0, 1e17),
    tp=st.sampled_from([1, 2, 8]),
)
def test_power_lies_between_idle_and_tdp(wall_ns: int, flops: float, moved: float, tp: int) -> None:
    energy = energy_j(MODEL, DEVICE, tp, wall_ns=wall_ns, flops=flops, moved_bytes=moved)
    seconds = wall_ns / 1e9 * tp
    assert energy.idle_j == pytest.approx(DEVICE.idle_watts * seconds)
    assert energy.idle_j <= energy.total_j <= DEVICE.tdp_watts * seconds * (1 + 1e-12)
    assert energy.prior


def test_peaks_draw_what_the_prior_says() -> None:
    second = 10**9
    compute = energy_j(MODEL, DEVICE, wall_ns=second, flops=989e12, moved_bytes=0)
    memory = energy_j(MODEL, DEVICE, wall_ns=second, flops=0, moved_bytes=3_350e9)
    assert compute.total_j == pytest.approx(105 + 0.8 * 595)
    assert memory.total_j == pytest.approx(105 + 0.6 * 595)
    both = energy_j(MODEL, DEVICE, wall_ns=second, flops=989e12, moved_bytes=3_350e9)
    assert both.capped
    assert both.total_j == DEVICE.tdp_watts


def test_fitted_coefficients_are_no_prior() -> None:
    fitted = EnergyCoefficients(100, 700, 1e-12, 1e-10)
    energy = energy_j(
        MODEL, DEVICE, wall_ns=10**9, flops=1e14, moved_bytes=1e11, coefficients=fitted
    )
    assert energy.total_j == pytest.approx(100 + 100 + 10)
    assert not energy.prior
    assert energy.idle_share == pytest.approx(100 / 210)
