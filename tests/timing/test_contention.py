"""Steps side by side: nobody gets more than the device has, and memory needs fewer cores than arithmetic."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, strategies as st

from headway.core import Step
from headway.errors import OptionError
from headway.timing import Roofline, load_device, load_model
from headway.timing.contention import Contention, StepParts

from .steps import chunk, decode, step

TIMES = st.integers(0, 10**9)
PARTS = st.builds(
    StepParts,
    st.lists(st.tuples(TIMES, TIMES), min_size=1, max_size=3).map(tuple),
    st.integers(1, 10**8),
)
SHARES = st.integers(1, 1000)
DECODES = step(*[decode(600) for _ in range(16)])
PROMPT = step(chunk(2048, 0, ends=True))


@cache
def roofline(model: str = "llama-3.1-8b", tp: int = 1) -> Roofline:
    return Roofline(load_model(model), load_device("a100"), tp)


@given(PARTS)
def test_alone_with_the_whole_device_nothing_is_lost(parts: StepParts) -> None:
    assert Contention().rates([parts], [1000]) == [1000]


@given(st.lists(st.tuples(PARTS, SHARES), min_size=1, max_size=3))
def test_rates_are_parts_of_full_speed_and_nothing_is_used_twice(
    lanes: list[tuple[StepParts, int]],
) -> None:
    steps, shares = [parts for parts, _ in lanes], [share for _, share in lanes]
    rates = Contention().rates(steps, shares)
    assert all(1 <= rate <= 1000 for rate in rates)
    for resource in range(2):
        used = sum(
            parts.demands_ns[resource] * rate / max(1, parts.alone_ns)
            for parts, rate in zip(steps, rates, strict=True)
        )
        assert used <= 1010  # whole numbers


@given(PARTS, PARTS, SHARES, st.integers(1, 500))
def test_a_larger_share_never_slows_a_lane_alone_and_company_never_speeds_it_up(
    one: StepParts, other: StepParts, share: int, beside: int
) -> None:
    contention = Contention()
    (alone,) = contention.rates([one], [share])
    (more,) = contention.rates([one], [min(1000, share + 100)])
    assert alone <= more
    assert contention.rates([one, other], [share, beside])[0] <= alone


def test_a_memory_bound_decode_keeps_its_speed_at_three_fifths_and_a_prompt_does_not() -> None:
    timing = roofline()
    assert timing.rates([DECODES], [600])[0] >= 900
    assert timing.rates([DECODES], [200])[0] < 600
    assert 600 <= timing.rates([PROMPT], [600])[0] < 750


def test_two_memory_bound_lanes_share_the_bandwidth_and_complements_do_not_mind() -> None:
    timing = roofline()
    assert sum(timing.rates([DECODES, DECODES], [500, 500])) <= 1300  # host time overlaps
    prompt, decodes = timing.rates([PROMPT, DECODES], [600, 400])
    assert prompt + decodes > 1200


def test_competing_for_the_same_cores_costs_arithmetic() -> None:
    timing = roofline()
    apart, fighting = (timing.rates([PROMPT] * 2, [share] * 2) for share in (500, 1000))
    assert sum(fighting) < sum(apart) <= 1030  # host time overlaps


@pytest.mark.parametrize("model", ["llama-3.1-8b", "deepseek-v3", "gpt-oss-20b", "gemma-3-270m"])
@pytest.mark.parametrize("works", [DECODES, PROMPT, step(*DECODES.work, *PROMPT.work)])
def test_parts_add_up_to_the_step(model: str, works: Step) -> None:
    """Within what rounding down leaves."""
    timing = roofline(model, 8 if model == "deepseek-v3" else 1)
    alone = timing.durations_ns(works, 1)[0]
    assert timing.parts(works).alone_ns == pytest.approx(alone, abs=8)


def test_impossible_devices_are_refused() -> None:
    for wrong in ({"compute_knee": 950}, {"memory_knee": 0}, {"interference": 1000}):
        with pytest.raises(OptionError, match="per mille"):
            Contention(**wrong)
