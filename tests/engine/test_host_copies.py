"""Copies on the host: what is added later, what outlives the way back and its request, and nothing that is not true."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

import pytest

from headway.core import Request
from headway.core.plan import KEEP, SWAP_IN, SWAP_OUT, Transfer, Work
from headway.core.sequence import Sequence

pytest.importorskip("torch")
from headway.testing.tiny_model import tiny_model

if TYPE_CHECKING:
    from tests.engine.conftest import Driver

    Drive = Callable[..., Driver]

BLOCK = 4
PROMPT = tuple(range(40, 61))
OUTPUT = 24


@pytest.fixture
def driver(drive: Drive) -> Driver:
    made = drive(tiny_model(), blocks=64, block_tokens=BLOCK)
    made.executor._pool._keys.normal_()  # what nobody wrote is noise
    made.executor._pool._values.normal_()
    return made


@pytest.fixture(scope="module")
def answer() -> Iterator[Callable[[tuple[int, ...], int], list[int]]]:
    """What the model says alone."""
    from tests.engine.conftest import Driver

    alone = Driver(tiny_model(), blocks=64, block_tokens=BLOCK)

    @cache
    def ask(prompt: tuple[int, ...], tokens: int) -> list[int]:
        sequence = alone.add(prompt, tokens)
        alone.prefill(sequence)
        alone.finish(sequence)
        alone.drop_blocks(sequence)
        return list(sequence.output_ids or ())

    yield ask
    alone.close()


def move(driver: Driver, kind: str, sequence: Sequence, first: int = 0, extents: int = 1) -> None:
    """As the runtime does: all blocks that hold KV; a turn's last block only when it is full."""
    full = kind == KEEP
    blocks = (sequence.computed_tokens + (0 if full else BLOCK - 1)) // BLOCK - first
    arrived: list[bool] = []
    transfer = Transfer(0, kind, sequence, blocks, first=first, extents=extents)
    driver.executor.transfer(transfer, lambda: arrived.append(True))
    while not arrived:
        driver.clock.run_one()


def out(driver: Driver, sequence: Sequence, first: int = 0, extents: int = 1) -> None:
    move(driver, SWAP_OUT, sequence, first, extents)
    driver.drop_blocks(sequence)
    driver.executor._pool._keys.normal_()
    driver.executor._pool._values.normal_()


def back(driver: Driver, sequence: Sequence) -> None:
    driver.grow(sequence, sequence.computed_tokens)
    move(driver, SWAP_IN, sequence)


def decode(driver: Driver, sequence: Sequence, steps: int, drafts: int = 0) -> None:
    for _ in range(steps):
        driver.step(Work(sequence, 1 + drafts, None, drafts))


@pytest.mark.parametrize("extents", [1, 2, 99])
@pytest.mark.parametrize("drafts", [0, 3])
def test_only_what_is_new_goes_out_again(
    driver: Driver, answer: Callable[..., list[int]], drafts: int, extents: int
) -> None:
    sequence, full = driver.add(PROMPT, OUTPUT), 0
    driver.prefill(sequence)
    for steps in (1, 5, 0, 2):  # from full and partly full blocks, and nothing new at all
        out(driver, sequence, full, len(sequence.blocks) - full if extents == 99 else extents)
        full = sequence.computed_tokens // BLOCK
        back(driver, sequence)
        decode(driver, sequence, steps, drafts)
    driver.finish(sequence, drafts=drafts)
    assert sequence.output_ids == answer(PROMPT, OUTPUT)
    assert not len(driver.executor._host), "it went with its request"


def ended_turn(driver: Driver) -> Sequence:
    """All of a turn but its last token, kept; the request has ended."""
    sequence = driver.add(PROMPT, OUTPUT + 1)
    driver.prefill(sequence)
    decode(driver, sequence, OUTPUT - 1)
    move(driver, KEEP, sequence)
    driver.drop_blocks(sequence)
    driver.executor.release(sequence.id)
    return sequence


@pytest.mark.parametrize("blocks", [1, 6, 11])  # of the 11 that are full
def test_the_next_turn_goes_on_with_it(
    driver: Driver, answer: Callable[..., list[int]], blocks: int
) -> None:
    before = ended_turn(driver)
    prompt = (*PROMPT, *(before.output_ids or ()), 7, 8, 9)
    turn = driver.add(prompt, 9)
    assert driver.executor.adopt_copy(before.id, turn, blocks * BLOCK)
    turn.computed_tokens = blocks * BLOCK
    back(driver, turn)
    assert not driver.step(Work(turn, turn.remaining_tokens)).done[0].error
    out(driver, turn, blocks)  # and adds to what it took over
    back(driver, turn)
    driver.finish(turn)
    assert turn.output_ids == answer(prompt, 9)
    assert not len(driver.executor._host), "it was its own, and went with it"


def test_a_copy_of_other_tokens_is_refused(
    driver: Driver, answer: Callable[..., list[int]]
) -> None:
    before = ended_turn(driver)
    copied = driver.executor._host._copies[before.id].bytes
    prompt = (*PROMPT, *(before.output_ids or ())[:3], 7, 8, 9, 10)
    turn = driver.add(prompt, 9)
    assert driver.executor.adopt_copy(before.id, turn, 6 * BLOCK)
    turn.computed_tokens = 6 * BLOCK  # 21 tokens are the same, and 3 more: so far it is true
    back(driver, turn)
    assert driver.executor._host._copies[turn.id].bytes * 11 == copied * 6, "the rest is forgotten"
    driver.finish(turn)
    assert turn.output_ids == answer(prompt, 9)
    before = ended_turn(driver)
    turn = driver.add(prompt, 9)
    assert not driver.executor.adopt_copy(before.id, turn, 7 * BLOCK)
    assert not len(driver.executor._host)
    driver.prefill(turn)  # nothing stands in the way of computing it
    driver.finish(turn)
    assert turn.output_ids == answer(prompt, 9)


def test_what_comes_back_as_something_else_is_refused(driver: Driver) -> None:
    """Whatever the books say: the last look is taken when the blocks are written."""
    before = ended_turn(driver)
    turn = driver.add((*PROMPT, *(before.output_ids or ())[:3], 7, 8, 9, 10), 9)
    assert driver.executor.adopt_copy(before.id, turn, 6 * BLOCK)
    turn.computed_tokens = 7 * BLOCK - 3
    back(driver, turn)
    result = driver.step(Work(turn, turn.remaining_tokens))
    assert "swap_in" in result.done[0].error
    assert "no copy" in result.done[0].error


def test_a_turn_that_ends_before_it_began_takes_its_copy_along(driver: Driver) -> None:
    before = ended_turn(driver)
    turn = driver.add((*PROMPT, 1, 2), 3)
    assert driver.executor.adopt_copy(before.id, turn, BLOCK)
    driver.executor.release(before.id)
    assert len(driver.executor._host) == 1
    driver.executor.release(turn.id)
    assert not len(driver.executor._host)


@pytest.mark.parametrize("way", ["dropped", "never kept"])
def test_what_is_gone_is_gone(driver: Driver, way: str) -> None:
    if way == "dropped":
        before = ended_turn(driver)
        driver.executor.drop_copy(before.id)
    else:
        before = driver.add(PROMPT, OUTPUT)
        driver.prefill(before)
        out(driver, before)
        driver.executor.release(before.id)
    assert not len(driver.executor._host)
    turn = driver.add((*PROMPT, 1, 2), 3)
    assert not driver.executor.adopt_copy(before.id, turn, BLOCK)
    turn.computed_tokens = BLOCK
    back(driver, turn)
    assert "no copy" in driver.step(Work(turn, turn.remaining_tokens)).done[0].error


def test_blocks_behind_ones_that_the_host_lacks_are_refused(driver: Driver) -> None:
    sequence = driver.add(PROMPT, OUTPUT)
    driver.prefill(sequence)
    out(driver, sequence)
    driver.executor.drop_copy(sequence.id)
    driver.grow(sequence, sequence.computed_tokens)
    move(driver, SWAP_OUT, sequence, 2)
    move(driver, SWAP_IN, sequence)
    assert "does not have the 2 blocks" in driver.step(Work(sequence, 1)).done[0].error


def test_of_a_request_that_broke_nothing_is_kept(driver: Driver) -> None:
    sequence = driver.add(PROMPT, OUTPUT)
    driver.prefill(sequence)
    driver.executor._books.entry(sequence).broken = "somebody's numbers"
    move(driver, KEEP, sequence)
    driver.executor.release(sequence.id)
    turn = driver.add((*PROMPT, 1, 2), 3)
    assert not driver.executor.adopt_copy(sequence.id, turn, BLOCK)
    assert not len(driver.executor._host)


def test_a_release_on_the_way_out_leaves_nothing_but_what_is_kept(driver: Driver) -> None:
    """Both end before their transfer has landed."""
    for kind, left in ((SWAP_OUT, 0), (KEEP, 1)):
        sequence = Sequence(Request(kind == KEEP, 0, len(PROMPT), 9, prompt_ids=PROMPT))
        driver.prefill(sequence)
        arrived: list[bool] = []
        transfer = Transfer(0, kind, sequence, 5)
        driver.executor.transfer(transfer, lambda arrived=arrived: arrived.append(True))  # type: ignore[misc]
        driver.executor.release(sequence.id)
        driver.clock.run_one()
        assert arrived
        assert len(driver.executor._host) == left
