from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings, strategies as st

from headway.checkpoint.detokenizer import Detokenizer
from headway.checkpoint.synthetic_tokenizer import SyntheticTokenizer
from headway.checkpoint.tokenizer import Tokenizer

SYNTHETIC = SyntheticTokenizer()
BYTES = st.integers(3, 258)  # its byte tokens


@settings(max_examples=200)
@given(
    st.lists(BYTES | st.integers(0, SYNTHETIC.size - 1), max_size=40),
    st.lists(st.integers(0, 40)),
    st.booleans(),
)
def test_pieces_add_up_to_the_text_of_all(ids: list[int], cuts: list[int], skip: bool) -> None:
    check(SYNTHETIC, ids, cuts, skip=skip)


@settings(max_examples=100)
@given(st.text(max_size=30), st.data())
def test_pieces_of_the_real_vocabulary_add_up(
    gemma: Tokenizer, text: str, data: st.DataObject
) -> None:
    ids = gemma.encode(text)
    ids += data.draw(st.lists(st.integers(0, gemma.size) | st.integers(238, 493), max_size=20))
    check(gemma, ids, range(len(ids)), skip=True)


def check(tokenizer: Tokenizer, ids: list[int], cuts: list[int] | range, *, skip: bool) -> None:
    whole = tokenizer.decode(ids, skip_special=skip)
    detokenizer = Detokenizer(tokenizer, skip_special=skip)
    borders = sorted({0, len(ids), *(cut for cut in cuts if cut <= len(ids))})
    shown = ""
    for start, stop in pairwise(borders):
        shown += detokenizer.push(ids[start:stop])
        assert whole.startswith(shown)
    assert shown + detokenizer.finish() == whole


def test_a_character_in_parts_is_held_back_until_it_is_whole() -> None:
    detokenizer = Detokenizer(SYNTHETIC)
    emoji = SYNTHETIC.encode("😀", add_special=False)
    assert len(emoji) == 4
    assert [detokenizer.push([token]) for token in emoji] == ["", "", "", "😀"]
    assert detokenizer.push(emoji[:3]) == ""
    assert detokenizer.finish() == "\ufffd"
