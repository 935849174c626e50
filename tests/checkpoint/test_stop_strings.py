from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from headway.checkpoint.stop_strings import StopStrings
from headway.errors import OptionError

LETTERS = st.text("ab\n", max_size=30)
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=6), max_size=4)


def naive(text: str, stops: list[str], *, include: bool) -> tuple[str, str | None]:
    """Look at every beginning of the whole text for a stop string at its end."""
    for end in range(len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            hit = max(found, key=len)
            return text[: end if include else end - len(hit)], hit
    return text, None


@settings(max_examples=400)
@given(LETTERS, STOPS, st.booleans(), st.data())
def test_any_cut_of_the_text_gives_what_a_search_in_the_whole_gives(
    text: str, stops: list[str], include: bool, data: st.DataObject
) -> None:
    search = StopStrings(stops, include=include)
    shown, at = "", 0
    wanted, hit = naive(text, stops, include=include)
    while at < len(text):
        step = data.draw(st.integers(1, 5))
        shown += search.push(text[at : at + step])
        at += step
        assert wanted.startswith(shown)
    shown += search.finish()
    assert (shown, search.hit) == (wanted, hit)
    assert include or not any(stop in shown for stop in stops)


def test_only_what_may_become_a_stop_string_is_held_back() -> None:
    search = StopStrings(["\nUser:"])
    assert [search.push(part) for part in ("Hi", "\nUs", "e", "d", "\nUser", ": x")] == [
        "Hi",
        "",
        "",
        "\nUsed",
        "",
        "",
    ]
    assert search.hit == "\nUser:"
    assert search.push("more") == search.finish() == ""


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(OptionError, match="empty"):
        StopStrings(["a", ""])
