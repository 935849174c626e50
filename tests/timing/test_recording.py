"""Recorded, constant and affine durations."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from headway.core import Transfer
from headway.core.plan import SWAP_IN
from headway.errors import OptionError
from headway.timing import Affine, Constant, Recorded, Recorder, Roofline, load_device, load_model

from .steps import chunk, decode, grown, prompt, step


def test_a_recording_plays_back_the_same_durations() -> None:
    recorder = Recorder(Roofline(load_model("qwen3-0.6b"), load_device("l4")))
    steps = [
        (step(decode(50), chunk(99, 0)), 1),
        (step(decode(51), repeats=7), 7),
        (step(decode(9)), 1),
    ]
    move = Transfer(1, SWAP_IN, prompt(10, 20), 5)
    heard = [recorder.durations_ns(each, repeats) for each, repeats in steps]
    moved = recorder.transfer_ns(move)
    played = Recorded(recorder.steps_ns, recorder.transfers_ns, layers=recorder.layers)
    assert [played.durations_ns(each, repeats) for each, repeats in steps] == heard
    assert played.transfer_ns(move) == moved
    assert played.left == 0


def test_a_recording_that_is_too_short_says_so() -> None:
    played = Recorded([5, 6], layers=1)
    with pytest.raises(OptionError, match="2 left"):
        played.durations_ns(step(decode(1), repeats=3), 3)
    with pytest.raises(OptionError, match="transfer 9"):
        played.transfer_ns(Transfer(9, SWAP_IN, prompt(1, 2), 1))


def test_constant_service() -> None:
    timing = Constant(250, block_ns=3)
    assert timing.durations_ns(step(decode(1_000)), 3) == [250, 250, 250]
    assert timing.transfer_ns(Transfer(0, SWAP_IN, prompt(1, 2), 4)) == 12


@given(
    contexts=st.lists(st.integers(0, 500), min_size=1, max_size=5),
    tokens=st.integers(2, 50),
    depth=st.integers(1, 3),
)
def test_affine_leaps_equal_single_steps(contexts: list[int], tokens: int, depth: int) -> None:
    timing = Affine(1_000, token_ns=7, context_ns=2, sequence_ns=11, layers=3)
    works = [decode(c) for c in contexts]
    works.append(chunk(tokens, contexts[0])._replace(layers=(0, depth)))
    leap = timing.durations_ns(step(*works, repeats=5), 5)
    assert leap == [timing.durations_ns(step(*grown(works, j)), 1)[0] for j in range(5)]


def test_affine_is_what_it_says() -> None:
    timing = Affine(100, token_ns=10, context_ns=1, sequence_ns=5)
    assert Affine(1, block_ns=2).transfer_ns(Transfer(0, SWAP_IN, prompt(1, 2), 4)) == 8
    assert timing.durations_ns(step(decode(30), chunk(4, 6)), 2) == [100 + 10 + 50 + 36, 201]
