"""The law of this engine: what a model says does not depend on how its tokens were scheduled."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from headway.core.plan import DONE, INTERRUPTED

if TYPE_CHECKING:
    from tests.engine.conftest import Case, Driver

    Drive = Callable[..., Driver]
    Schedule = Callable[..., None]

pytestmark = pytest.mark.slow
MODES = ("chunks", "layers", "interrupts", "recompute", "swap", "drafts", "lanes")


def check(case: Case, driver: Driver, schedule: Schedule, seed: int, modes: frozenset[str]) -> None:
    sequences = [driver.add(prompt) for prompt in case.prompts]
    schedule(driver, sequences, random.Random(seed), modes)
    assert [sequence.output_ids for sequence in sequences] == case.answers
    assert {result.status for result in driver.results} <= {DONE, INTERRUPTED}
    assert not len(driver.executor._books)


@pytest.mark.parametrize("seed", range(6))
def test_tokens_do_not_depend_on_the_schedule(
    tiny: Case, drive: Drive, schedule: Schedule, seed: int
) -> None:
    check(tiny, drive(tiny.model), schedule, seed, frozenset(MODES))


@pytest.mark.parametrize("mode", ["plain", *MODES])
def test_tokens_of_the_real_shape_are_those_of_transformers(
    real: Case, drive: Drive, schedule: Schedule, mode: str
) -> None:
    check(real, drive(real.model, blocks=400, block_tokens=16), schedule, 1, frozenset({mode}))


def test_real_shape_answers_are_worth_comparing_with(real: Case) -> None:
    assert sum(len(set(tokens)) for tokens in real.answers) > 20 * 20
