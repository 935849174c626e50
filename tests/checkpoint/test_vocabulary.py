from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, strategies as st

from headway.checkpoint.vocabulary import BYTE, CONTROL, NORMAL, SPACE, USER_DEFINED, Vocabulary

FIXED = [
    ("<eos>", CONTROL),
    ("<bos>", CONTROL),
    ("<turn>", CONTROL),
    ("\n\n", USER_DEFINED),
    ("\n", USER_DEFINED),
]
WORDS = [
    SPACE,
    "a",
    "b",
    "c",
    "h",
    "e",
    "l",
    "o",
    "ab",
    "bc",
    "he",
    "ll",
    "hell",
    "o" + SPACE,
    SPACE + "a",
]


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return make()


def make() -> Vocabulary:
    pieces = [piece for piece, _ in FIXED] + [f"<0x{byte:02X}>" for byte in range(256)] + WORDS
    kinds = [kind for _, kind in FIXED] + [BYTE] * 256 + [NORMAL] * len(WORDS)
    scores = -np.arange(len(pieces), dtype=np.float32)
    return Vocabulary(pieces, scores, np.array(kinds, np.int32), bos=1, eos=0)


@given(st.text())
def test_any_text_survives_a_round_trip(text: str) -> None:
    vocabulary = make()
    assert vocabulary.decode(vocabulary.encode(text.replace(SPACE, ""))) == text.replace(SPACE, "")


def pieces(vocabulary: Vocabulary, text: str, *, control: bool = False) -> list[str]:
    return [
        vocabulary.pieces[token] for token in vocabulary.encode(text, bos=False, control=control)
    ]


def test_the_earliest_merge_wins_not_the_leftmost(vocabulary: Vocabulary) -> None:
    assert pieces(vocabulary, "abc") == ["ab", "c"]
    assert pieces(vocabulary, "hello a") == ["hell", "o" + SPACE, "a"]


def test_user_defined_pieces_are_cut_out_first_longest_first(vocabulary: Vocabulary) -> None:
    assert pieces(vocabulary, "a\n\n\nb") == ["a", "\n\n", "\n", "b"]


def test_control_tokens_come_from_templates_never_from_users(vocabulary: Vocabulary) -> None:
    assert pieces(vocabulary, "<turn>a", control=True) == ["<turn>", "a"]
    assert "<turn>" not in pieces(vocabulary, "<turn>a")
    assert vocabulary.encode("a")[0] == vocabulary.bos
    assert vocabulary.decode([1, 2, 0]) == ""


def test_a_character_may_be_spread_over_tokens(vocabulary: Vocabulary) -> None:
    tokens = vocabulary.encode("é", bos=False)
    assert [vocabulary.piece(token) for token in tokens] == [b"\xc3", b"\xa9"]


@given(st.text("abchelo " + SPACE + "é\n"))
def test_cutting_at_words_changes_nothing(text: str) -> None:
    cut, whole = make(), make()
    whole.__dict__["_border"] = re.compile("(?!)")
    assert cut.encode(text) == whole.encode(text)


def test_spaces_in_fixed_pieces_may_be_written_either_way() -> None:
    for written in ("  ", SPACE * 2):
        pieces = ["<eos>", "<bos>", written, *(f"<0x{byte:02X}>" for byte in range(256)), "a"]
        kinds = [CONTROL, CONTROL, USER_DEFINED, *[BYTE] * 256, NORMAL]
        vocabulary = Vocabulary(
            pieces, np.zeros(len(pieces), np.float32), np.array(kinds, np.int32), bos=1, eos=0
        )
        ids = vocabulary.encode("a  a", bos=False)
        assert ids == [pieces.index("a"), 2, pieces.index("a")]
        assert vocabulary.decode(ids) == "a  a"
