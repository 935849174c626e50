from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

from headway.core.plan import (
    DONE,
    EXPORT,
    IMPORT,
    INTERRUPTED,
    LAYER,
    SWAP_IN,
    SWAP_OUT,
    Step,
    Work,
)
from headway.core.sequence import FINISHED
from headway.engine.drafts import PromptLookup
from headway.engine.kv_exchange import KvExchange
from headway.engine.load import load_dir
from headway.engine.outcomes import TorchOutcomes

if TYPE_CHECKING:
    from tests.engine.conftest import Case, Driver

    Drive = Callable[..., Driver]

pytestmark = pytest.mark.slow  # seconds in all: transformers answers first


def test_reference_answers_are_worth_comparing_with(tiny: Case) -> None:
    for tokens in tiny.answers:
        assert len(set(tokens)) > 20, "a model that repeats itself would hide errors"


def test_alone(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model)
    for prompt, answer in zip(tiny.prompts, tiny.answers, strict=True):
        sequence = driver.add(prompt)
        driver.prefill(sequence)
        driver.finish(sequence)
        assert sequence.output_ids == answer


@pytest.mark.parametrize("chunk", [1, 3, 13])
def test_chunked_prefill(tiny: Case, drive: Drive, chunk: int) -> None:
    driver = drive(tiny.model)
    for prompt, answer in zip(tiny.prompts, tiny.answers, strict=True):
        sequence = driver.add(prompt, 16)
        driver.prefill(sequence, chunk)
        driver.finish(sequence)
        assert sequence.output_ids == answer[:16]


def test_mixed_steps_of_chunks_and_decodes(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model)
    sequences = [driver.add(prompt) for prompt in tiny.prompts]
    started = 0
    while any(sequence.state != FINISHED for sequence in sequences):
        started = min(len(sequences), started + 1)
        driver.step(
            *(
                Work(s, min(11, s.remaining_tokens))
                for s in sequences[:started]
                if s.state != FINISHED
            )
        )
    assert [sequence.output_ids for sequence in sequences] == tiny.answers


def test_recompute_covers_prompt_and_old_output(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model)
    sequence = driver.add(tiny.prompts[1])
    driver.prefill(sequence)
    for _ in range(3):
        for _ in range(9):
            driver.step(Work(sequence, 1))
        sequence.computed_tokens = 0
        driver.drop_blocks(sequence)
        other = driver.add(tiny.prompts[3], 4)  # overwrites the blocks
        driver.prefill(other)
        while sequence.remaining_tokens > 1:
            driver.step(Work(sequence, min(17, sequence.remaining_tokens)))
    driver.finish(sequence)
    assert sequence.output_ids == tiny.answers[1]


def test_swap_brings_kv_back_into_other_blocks(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model, blocks=40)
    sequence = driver.add(tiny.prompts[2])
    driver.prefill(sequence)
    for _ in range(5):
        driver.step(Work(sequence, 1))
    before = list(sequence.blocks)
    driver.move(SWAP_OUT, sequence)
    driver.drop_blocks(sequence)
    other = driver.add(tiny.prompts[3])
    driver.prefill(other)
    driver.finish(other)
    driver.drop_blocks(other)
    driver.grow(sequence, sequence.computed_tokens)
    driver.move(SWAP_IN, sequence)
    driver.finish(sequence)
    assert sequence.output_ids == tiny.answers[2]
    assert other.output_ids == tiny.answers[3]
    assert sequence.blocks[: len(before)] != before


def test_shared_prefix_blocks(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model)
    first, second = driver.add(tiny.prompts[3]), driver.add(tiny.prompts[3])
    driver.prefill(first)
    second.blocks = first.blocks[:9]
    second.computed_tokens = second.cached_tokens = 36
    driver.step(Work(second, 4), Work(first, 1))
    driver.finish(first, second)
    assert first.output_ids == second.output_ids == tiny.answers[3]


def test_layer_ranges_and_whole_works_in_one_step(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model)
    decode, layered = driver.add(tiny.prompts[0]), driver.add(tiny.prompts[3])
    driver.prefill(decode)
    ranges: list[tuple[int, int]] = [(0, 3), (3, 4), (4, 8)]
    for layers in ranges:
        result = driver.step(Work(decode, 1), Work(layered, 40, layers))
        assert result.status == DONE
        assert result.done[1][:3] == ((8, 40, 1) if layers[1] == 8 else (layers[1], 0, 0))
    driver.finish(decode, layered)
    assert decode.output_ids == tiny.answers[0]
    assert layered.output_ids == tiny.answers[3]


def test_interrupted_steps_resume_where_they_stopped(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model)
    sequences = [driver.add(prompt, 24) for prompt in tiny.prompts]
    for sequence in sequences[:2]:
        driver.prefill(sequence)
    interrupted = 0
    while left := [sequence for sequence in sequences if sequence.state != FINISHED]:
        works = [
            Work(s, s.partial[0], (s.partial[1], 8))
            if s.partial
            else Work(s, min(15, s.remaining_tokens))
            for s in left
        ]
        handle = driver.launch(works)
        handle.interrupt(LAYER)
        driver.land()
        result = driver.results[-1]
        assert result.status in (DONE, INTERRUPTED)
        if result.status == INTERRUPTED:
            interrupted += 1
            for work, done in zip(works, result.done, strict=True):
                assert done.layers == max(
                    (work.layers or (0,))[0], min(d.layers for d in result.done)
                )
    assert interrupted
    assert [s.output_ids for s in sequences] == [answer[:24] for answer in tiny.answers]


def test_dropped_chunk_starts_again_at_layer_zero(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model)
    sequence = driver.add(tiny.prompts[2], 8)
    driver.step(Work(sequence, 24, (0, 5)))
    driver.drop_blocks(sequence)
    driver.prefill(sequence, 10)
    driver.finish(sequence)
    assert sequence.output_ids == tiny.answers[2][:8]


@pytest.mark.parametrize("drafts", [2, 5])
def test_drafts_change_steps_but_no_tokens(tiny: Case, drive: Drive, drafts: int) -> None:
    driver = drive(tiny.model)
    looping = tiny.prompts[1] + tuple(
        tiny.answers[1]
    )  # the answer is in the prompt: lookup will find it
    sequences = [driver.add(prompt) for prompt in (*tiny.prompts, looping)]
    for sequence in sequences:
        driver.prefill(sequence)
    driver.finish(*sequences, drafts=drafts)
    assert [sequence.output_ids for sequence in sequences[:4]] == tiny.answers
    plain = driver.add(looping)
    driver.prefill(plain)
    driver.finish(plain)
    assert sequences[4].output_ids == plain.output_ids


class Oracle(PromptLookup):
    def __init__(self, answer: list[int]) -> None:
        super().__init__()
        self._answer = answer

    def propose(self, tokens: Sequence[int], count: int) -> list[int]:
        return (self._answer + [0] * count)[len(tokens) - 9 :][:count]


def test_accepted_drafts_leave_valid_kv(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model)
    sequence = driver.add(tiny.prompts[1])
    driver.prefill(sequence)
    entry = driver.executor._books.entry(sequence)
    entry.lookup = Oracle(tiny.answers[1])
    before = len(driver.results)
    driver.finish(sequence, drafts=3)
    assert sequence.output_ids == tiny.answers[1]
    assert len(driver.results) - before == -(-(len(tiny.answers[1]) - 1) // 4)


def test_two_lanes_side_by_side(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model)
    sequences = [driver.add(prompt) for prompt in tiny.prompts]
    lanes = {"one": sequences[:2], "two": sequences[2:]}
    while any(sequence.state != FINISHED for sequence in sequences):
        for lane, members in lanes.items():
            works = [Work(s, min(7, s.remaining_tokens)) for s in members if s.state != FINISHED]
            if works:
                driver.launch(works, lane)
        driver.land()
    assert [sequence.output_ids for sequence in sequences] == tiny.answers


def test_next_step_planned_before_the_result_landed(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model)
    sequences = [driver.add(prompt, 20) for prompt in tiny.prompts]
    for _ in range(40):
        while driver.in_flight < 2:
            live = [s for s in sequences if s.state != FINISHED]
            if not live:
                break
            driver.launch([Work(s, min(9, s.remaining_tokens)) for s in live])
        if driver.in_flight:
            driver.clock.run_one()
    driver.land()
    assert [s.output_ids for s in sequences] == [answer[:20] for answer in tiny.answers]
    assert all(result.status == DONE for result in driver.results)


def test_export_and_import_between_executors(tiny: Case, drive: Drive) -> None:
    exchange = KvExchange()
    here, there = (
        drive(tiny.model, exchange=exchange),
        drive(tiny.model, exchange=exchange, blocks=64),
    )
    source = here.add(tiny.prompts[2], request_id=7)
    here.prefill(source)
    here.move(EXPORT, source)
    target = there.add(tiny.prompts[2], request_id=7)
    target.output_ids = list(source.output_ids or [])
    target.computed_tokens, target.total_tokens = source.computed_tokens, source.total_tokens
    target.output_tokens = source.output_tokens
    there.grow(target, target.computed_tokens)
    there.move(IMPORT, target)
    there.finish(target)
    assert target.output_ids == tiny.answers[2]
    here.executor.release(source.id)  # the source owns it until it is told that it lives elsewhere
    assert not len(here.executor._books)


def test_late_steps_of_an_aborted_request_are_harmless(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model)
    aborted, other = driver.add(tiny.prompts[0]), driver.add(tiny.prompts[1])
    driver.prefill(aborted)
    driver.prefill(other)
    for _ in range(2):
        driver.launch([Work(aborted, 1), Work(other, 1)])
    aborted.state = FINISHED
    driver.executor.release(aborted.id)
    driver.land()
    driver.finish(other)
    assert other.output_ids == tiny.answers[1]
    assert not len(driver.executor._books)


def test_stop_token_ends_the_sequence_even_among_drafts(tiny: Case, drive: Drive) -> None:
    stop = tiny.answers[1][10]
    until = tiny.answers[1].index(stop) + 1
    for drafts in (0, 3):
        driver = drive(tiny.model, stops=[stop])
        sequence = driver.add(tiny.prompts[1])
        driver.prefill(sequence)
        driver.finish(sequence, drafts=drafts)
        assert sequence.output_ids == tiny.answers[1][:until]
        assert driver.results[-1].done[0].ended


def test_output_never_exceeds_max_tokens_with_drafts(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model)
    for most in range(1, 8):
        sequence = driver.add((2, 5, 5, 5, 5, 5), most)
        driver.prefill(sequence)
        driver.finish(sequence, drafts=4)
        assert len(sequence.output_ids or []) == most


def test_a_step_tells_where_its_time_went(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model)
    sequence = driver.add(tiny.prompts[0])
    chunk, whole = driver.step(Work(sequence, 2)), driver.step(Work(sequence, 1))
    for result in (chunk, whole):
        assert [name for name, _ in result.parts_ns] == ["draft", "layers", "head", "sample"]
        assert all(spent >= 0 for _, spent in result.parts_ns)
    assert dict(whole.parts_ns)["head"] > dict(chunk.parts_ns)["head"] == 0


def test_outcomes_stop_at_any_layer_and_resume(tiny: Case, drive: Drive) -> None:
    outcomes = TorchOutcomes(tiny.model, blocks=64, block_tokens=4)
    driver = drive(tiny.model, blocks=64)  # for its books only
    sequence = driver.add(tiny.prompts[2], 8)
    driver.grow(sequence, 32)
    layers = None
    for stop in (1, 2, 6, 8):
        (done,) = outcomes.outcome(Step(0, "main", [Work(sequence, 24, layers)]), stop)
        assert done.layers == stop
        layers = (stop, 8)
    assert (done.tokens, done.emitted, list(done.ids)) == (24, 1, tiny.answers[2][:1])


def test_load_dir_knows_the_model(tiny: Case) -> None:
    loaded = load_dir(tiny.path)
    assert loaded.layers == 8
    stacked_norms = 8 * (5 - 2) * 16 * 4  # the query norm once a head
    weights = sum(weight.nbytes for weight in tiny.reference.parameters())
    assert loaded.bytes == weights + stacked_norms  # the tied embedding once
