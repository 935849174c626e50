"""Length distributions have the medians and means they were asked for."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from headway.errors import OptionError
from headway.workload import (
    Distribution,
    Empirical,
    Fixed,
    Independent,
    LogNormal,
    OutputByPrompt,
    Seen,
    Shapes,
    Uniform,
    Zipf,
    azure_conversation,
    conversation_like,
)
from headway.workload.sessions import TURNS

MANY = 100_000


def drawn(distribution: Distribution, count: int = MANY, seed: int = 0) -> np.ndarray:
    return np.array(list(islice(distribution.draws(np.random.default_rng(seed)), count)))


def pairs_of(shapes: Shapes, count: int = MANY, seed: int = 0) -> np.ndarray:
    return np.array(list(islice(shapes.pairs(np.random.default_rng(seed)), count)))


def test_azure_like_lengths_have_azures_medians_and_means() -> None:
    prompts, outputs = pairs_of(azure_conversation()).T
    assert np.median(prompts) == pytest.approx(1020, rel=0.03)
    assert prompts.mean() == pytest.approx(1155, rel=0.03)
    assert np.median(outputs) == pytest.approx(129, rel=0.03)
    assert outputs.mean() == pytest.approx(211, rel=0.03)
    assert outputs.max() <= 2048


def test_turns_follow_burstgpt() -> None:
    turns = drawn(TURNS)
    assert np.median(turns) == 2
    assert (turns == 1).mean() > 0.35
    assert (turns <= 4).mean() >= 0.75
    assert turns.mean() == pytest.approx(4.18, rel=0.05)


def test_zipf_reproduces_what_the_rejection_of_burstgpt_perf_gives() -> None:
    values = drawn(Zipf())
    assert values.mean() == pytest.approx(102, rel=0.05)
    assert np.median(values) == 12
    assert np.percentile(values, 90) == pytest.approx(355, rel=0.05)
    assert values.max() < 1024


def test_uniform_reaches_both_ends_and_fixed_stays() -> None:
    assert set(drawn(Uniform(3, 6), 1000)) == {3, 4, 5, 6}
    assert set(drawn(Fixed(9), 10)) == {9}


def test_empirical_keeps_proportions() -> None:
    values = drawn(Empirical([5, 5, 5, 700]))
    assert set(values) == {5, 700}
    assert (values == 700).mean() == pytest.approx(0.25, rel=0.05)


def test_seen_pairs_stay_together() -> None:
    offers = list(conversation_like(requests=50).offers())
    table = {(o.request.prompt_tokens, o.output_tokens) for o in offers}
    assert {tuple(pair) for pair in pairs_of(Seen.of(offers), 5000).tolist()} == table


def test_outputs_by_prompt_dip_and_rise() -> None:
    medians = [
        np.median(pairs_of(OutputByPrompt(Fixed(prompt)), 20_000)[:, 1])
        for prompt in (20, 200, 2000)
    ]
    assert medians == pytest.approx([240, 95, 440], rel=0.05)


def test_changing_the_prompts_leaves_the_outputs() -> None:
    outputs = LogNormal.of(129, 211)
    short = pairs_of(Independent(Fixed(10), outputs), 100)
    long = pairs_of(Independent(LogNormal.of(5000, 9000), outputs), 100)
    assert (short[:, 1] == long[:, 1]).all()


@settings(max_examples=20)
@given(st.floats(0.1, 5000), st.floats(0.05, 3), st.integers(1, 10_000), st.integers(0, 2**32))
def test_lognormal_lengths_stay_in_range_and_repeat(
    median: float, sigma: float, most: int, seed: int
) -> None:
    values = drawn(LogNormal(median, sigma, most), 500, seed)
    assert values.min() >= 1
    assert values.max() <= most
    assert (values == drawn(LogNormal(median, sigma, most), 500, seed)).all()


@pytest.mark.parametrize(
    "build",
    [
        lambda: LogNormal(0, 1),
        lambda: LogNormal.of(211, 129),
        lambda: Uniform(0, 5),
        lambda: Uniform(6, 5),
        lambda: Fixed(0),
        lambda: Zipf(limit=1),
        lambda: Empirical([]),
        lambda: Empirical([3, 0]),
        lambda: Seen([]),
        lambda: OutputByPrompt(Fixed(1), knots=((5, 1), (4, 1))),
    ],
)
def test_impossible_lengths_are_refused(build: object) -> None:
    with pytest.raises(OptionError):
        build()  # type: ignore[operator]
