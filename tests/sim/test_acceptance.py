"""Draft tokens are right by a law that neither preemption nor the draft's length can change."""

from __future__ import annotations

from statistics import fmean, pstdev

import pytest
from hypothesis import given, strategies as st

from headway.api import simulate
from headway.core import Request, Sequence, Step, Work
from headway.errors import OptionError
from headway.sim import Acceptance, Lengths

chances = st.floats(0.0, 1.0)


@given(chances, st.integers(0, 10), st.integers(0, 10_000), st.integers(0, 500), st.integers(1, 8))
def test_a_shorter_draft_meets_the_same_tokens(
    mean: float, seed: int, request_id: int, position: int, most: int
) -> None:
    law = Acceptance(mean, 0.0, seed)
    longest = law.accepted(request_id, position, most)
    for drafts in range(most + 1):
        assert law.accepted(request_id, position, drafts) == min(longest, drafts)
    if longest > 0:  # the tokens behind the first are judged alike when they are drafted first
        assert law.accepted(request_id, position + 1, most - 1) == longest - 1


@pytest.mark.parametrize("mean", [0.0, 0.3, 0.7, 1.0])
def test_the_share_of_right_tokens_is_the_mean(mean: float) -> None:
    law = Acceptance(mean, seed=3)
    first = [
        law.accepted(request_id, position, 1) for request_id in range(50) for position in range(80)
    ]
    assert fmean(first) == pytest.approx(mean, abs=0.025)


def test_requests_differ_by_the_spread_and_each_stays_what_it_is() -> None:
    law = Acceptance(0.7, 0.1, seed=1)
    chances = [law.of(request_id) for request_id in range(3000)]
    assert fmean(chances) == pytest.approx(0.7, abs=0.01)
    assert pstdev(chances) == pytest.approx(0.1, abs=0.01)
    assert chances == [Acceptance(0.7, 0.1, seed=1).of(request_id) for request_id in range(3000)]
    assert law.of(5) != Acceptance(0.7, 0.1, seed=2).of(5)


def test_impossible_laws_are_refused_with_the_limit() -> None:
    with pytest.raises(OptionError, match="0 to 1"):
        Acceptance(1.2)
    with pytest.raises(OptionError, match=r"less than 0\.5"):
        Acceptance(0.5, 0.5)
    with pytest.raises(OptionError, match="acceptance"):
        simulate(acceptance_spread=0.1, requests=1)


def test_a_table_of_lengths_emits_what_was_right_and_one_more() -> None:
    law = Acceptance(0.6)
    lengths = Lengths({7: 1000}, acceptance=law)
    sequence = Sequence(Request(7, 0, 10, 1000))
    for output in range(1, 40):
        sequence.output_tokens, sequence.total_tokens = output, 10 + output
        sequence.computed_tokens = 9 + output
        (done,) = lengths.outcome(Step(0, "main", [Work(sequence, 5, None, 4)]), lengths.layers)
        assert done.emitted == 1 + law.accepted(7, output, 4)
        assert done.tokens == done.emitted


@pytest.mark.parametrize("acceptance", [None, 0.0, 0.5, 1.0])
def test_speculation_loses_and_invents_nothing(acceptance: float | None) -> None:
    columns = [
        simulate(
            speculation=speculation, acceptance=acceptance, requests=25, kv_blocks=400,
            max_tokens=300, rate_rps=20.0,
        ).requests()
        for speculation in ("none", "fixed", "smartspec")
    ]  # fmt: skip
    emitted = [
        dict(zip(c["id"].tolist(), c["output_tokens"].tolist(), strict=True)) for c in columns
    ]
    assert emitted[0] == emitted[1] == emitted[2]
