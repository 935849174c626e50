from __future__ import annotations

from hypothesis import given, strategies as st

from headway.engine.drafts import PromptLookup

tokens = st.lists(st.integers(0, 5), min_size=1, max_size=40)


@given(tokens, st.integers(1, 6))
def test_a_draft_has_the_length_asked_for(text: list[int], count: int) -> None:
    assert len(PromptLookup().propose(text, count)) == count


@given(tokens, st.integers(1, 6))
def test_proposals_do_not_depend_on_when_they_were_asked_before(
    text: list[int], count: int
) -> None:
    growing = PromptLookup()
    for end in range(1, len(text)):
        growing.propose(text[:end], count)
    assert growing.propose(text, count) == PromptLookup().propose(text, count)


def test_the_longest_match_wins_and_the_newest_among_equals() -> None:
    assert PromptLookup().propose([1, 2, 3, 4, 9, 2, 3, 5, 1, 2, 3], 2) == [4, 9]
    assert PromptLookup().propose([7, 1, 7, 2, 7], 1) == [2]


def test_without_a_match_the_last_token_is_repeated() -> None:
    assert PromptLookup().propose([4, 5, 6], 3) == [6, 6, 6]
    assert PromptLookup().propose([6, 8, 6], 3) == [8, 6, 6]
