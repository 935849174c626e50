"""What cannot be computed ends its own request, with the reason; the rest of the step goes on."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan
from typing import TYPE_CHECKING

import pytest
from torch import Tensor

from headway.core.plan import DONE, SWAP_IN, Work
from headway.core.sampling import GREEDY, Sampling
from headway.core.sequence import FINISHED

if TYPE_CHECKING:
    from tests.engine.conftest import Case, Driver

    Drive = Callable[..., Driver]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("prompt", "sampling", "reason"),
    [
        ((2, 9999), GREEDY, "9999"),
        ((2, -1), GREEDY, "-1"),
        ((2, 3), Sampling(temperature=nan), "temperature"),
        ((2, 3), Sampling(temperature=-1), "temperature"),
        ((2, 3), Sampling(logit_bias=((1 << 70, 1.0),)), "logit_bias"),
        ((2, 3), Sampling(logit_bias=((4, inf),)), "logit_bias"),
        ((2, 3), Sampling(stop_ids=(512,)), "stop_ids"),
        ((2, 3), Sampling(top_p=0), "top_p"),
        ((2, 3), Sampling(min_p=1.5), "min_p"),
        ((2, 3), Sampling(repetition_penalty=0), "repetition_penalty"),
        ((2, 3), Sampling(logprobs=-1), "logprobs"),
        ((2, 3), Sampling(stop_ids=tuple(range(512)), min_tokens=1), "min_tokens"),
    ],
)
def test_a_request_that_cannot_be_computed_fails_alone(
    tiny: Case, drive: Drive, prompt: tuple[int, ...], sampling: Sampling, reason: str
) -> None:
    driver = drive(tiny.model)
    bad, good = driver.add(prompt, sampling=sampling), driver.add(tiny.prompts[0])
    result = driver.step(Work(bad, 2), Work(good, 3))
    assert result.status == DONE
    assert reason in result.done[0].error
    assert not result.done[0].emitted
    assert not result.done[1].error
    driver.finish(good)
    assert good.output_ids == tiny.answers[0]
    assert not len(driver.executor._books)


def test_what_breaks_within_the_layers_or_the_head_fails_alone(
    tiny: Case, drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = drive(tiny.model)
    sequences = [driver.add(prompt, 8) for prompt in tiny.prompts]
    sequences[0].blocks = [10_000]  # outside the pool
    head, many = tiny.model.head, [True]

    def fragile(rows: Tensor) -> Tensor:
        if len(rows) > 1 and many:
            raise MemoryError("too many rows")
        return head(rows)

    monkeypatch.setattr(tiny.model, "head", fragile)
    result = driver.step(*(Work(s, s.remaining_tokens) for s in sequences))
    assert result.status == DONE
    assert [bool(done.error) for done in result.done] == [True, False, False, False]
    many.clear()
    driver.finish(*sequences[1:])
    assert [s.output_ids for s in sequences[1:]] == [answer[:8] for answer in tiny.answers[1:]]


def test_scores_that_are_no_numbers_end_their_request_only(
    tiny: Case, drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = drive(tiny.model)
    ways = [GREEDY, Sampling(temperature=1.0), Sampling(temperature=1.0, top_p=0.5, logprobs=3)]
    bad = [driver.add(tiny.prompts[2], 4, sampling=sampling) for sampling in ways]
    good = [driver.add(tiny.prompts[2], 4, sampling=sampling) for sampling in ways]
    head = tiny.model.head

    def poisoned(rows: Tensor) -> Tensor:
        scores = head(rows)
        scores[: len(bad)] = nan
        return scores

    with monkeypatch.context() as patch:
        patch.setattr(tiny.model, "head", poisoned)
        result = driver.step(*(Work(s, 24) for s in (*bad, *good)))
    assert ["no numbers" in done.error for done in result.done] == [True] * 3 + [False] * 3
    driver.finish(*good)
    assert good[0].output_ids == tiny.answers[2][:4]


def test_swap_in_without_a_copy_fails_the_sequence_with_the_reason(
    tiny: Case, drive: Drive
) -> None:
    driver = drive(tiny.model)
    sequence = driver.add(tiny.prompts[0])
    driver.prefill(sequence)
    driver.move(SWAP_IN, sequence)
    result = driver.step(Work(sequence, 1))
    assert "no copy" in result.done[0].error
    assert sequence.state == FINISHED
