"""A draft model changes how many steps a text takes, and nothing else."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, strategies as st

from headway.core.plan import DONE, EXPORT, IMPORT, INTERRUPTED, LAYER, SWAP_IN, SWAP_OUT, Work
from headway.core.sampling import Sampling
from headway.core.sequence import FINISHED, Sequence
from headway.engine.decoder import Decoder
from headway.engine.draft_kv import NOBODY, DraftKv, Trail
from headway.engine.drafter import CATCH_UP, Wish
from headway.engine.kv_exchange import KvExchange
from headway.errors import OptionError
from headway.testing.tiny_model import tiny_config, tiny_model, tiny_weights

if TYPE_CHECKING:
    from tests.engine.conftest import Case, Driver

    Drive = Callable[..., Driver]
    Schedule = Callable[..., None]

pytestmark = pytest.mark.slow
DRAFTS = 3
SAMPLED = (
    Sampling(temperature=1.0, seed=3),
    Sampling(temperature=0.8, seed=4, top_p=0.9, logprobs=2),
    Sampling(temperature=0.2, seed=5, top_k=20, presence_penalty=0.5),
    Sampling(seed=6, frequency_penalty=0.4, min_tokens=9),
)


def stranger() -> Decoder:
    """Other weights, other sizes, the same vocabulary."""
    return tiny_model(seed=12)


def steps_of(driver: Driver, *sequences: Sequence, drafts: int = DRAFTS) -> int:
    before = len(driver.results)
    driver.finish(*sequences, drafts=drafts)
    return len(driver.results) - before


@pytest.mark.parametrize("drafts", [1, 3, 6])
def test_the_model_itself_is_always_right(tiny: Case, drive: Drive, drafts: int) -> None:
    driver = drive(tiny.model, draft=tiny.model)
    for prompt, answer in zip(tiny.prompts[::2], tiny.answers[::2], strict=True):
        sequence = driver.add(prompt, 40)
        driver.prefill(sequence, 7)
        steps = steps_of(driver, sequence, drafts=drafts)
        assert sequence.output_ids == answer[:40]
        assert steps == -(-39 // (1 + drafts))


def test_all_together_in_one_pass_are_right_too(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model, draft=tiny.model)
    sequences = [driver.add(prompt) for prompt in tiny.prompts]
    for sequence in sequences:
        driver.prefill(sequence)
    assert steps_of(driver, *sequences) <= 2 + -(-63 // (1 + DRAFTS))
    assert [sequence.output_ids for sequence in sequences] == tiny.answers


def test_chunks_of_one_step_do_not_get_mixed_up(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model, draft=tiny.model)
    # the outer two are computed side by side, the one between them alone
    sequences = [driver.add(tiny.prompts[n]) for n in (0, 1, 0)]
    driver.step(*(Work(sequence, sequence.remaining_tokens) for sequence in sequences))
    assert steps_of(driver, *sequences) == -(-63 // (1 + DRAFTS))
    assert [sequence.output_ids for sequence in sequences] == [tiny.answers[n] for n in (0, 1, 0)]


def test_a_stranger_is_hardly_ever_right_and_changes_no_token(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model, draft=stranger())
    sequences = [driver.add(prompt) for prompt in tiny.prompts]
    for sequence in sequences:
        driver.prefill(sequence)
    assert steps_of(driver, *sequences) > 50
    assert [sequence.output_ids for sequence in sequences] == tiny.answers


@pytest.mark.parametrize("own", [True, False])
def test_sampled_text_is_that_without_drafts(tiny: Case, drive: Drive, own: bool) -> None:
    plain = drive(tiny.model)
    drafted = drive(tiny.model, draft=tiny.model if own else stranger())
    texts = []
    for driver, drafts in ((plain, 0), (drafted, DRAFTS)):
        sequences = [
            driver.add(prompt, 40, sampling=sampling)
            for prompt, sampling in zip(tiny.prompts, SAMPLED, strict=True)
        ]
        for sequence in sequences:
            driver.prefill(sequence, 11)
        driver.finish(*sequences, drafts=drafts)
        texts.append([sequence.output_ids for sequence in sequences])
    assert texts[0] == texts[1]
    assert all(len(set(text or ())) > 10 for text in texts[0])
    if own:  # the best token is often the one that is drawn
        assert sum(len(result.done) for result in drafted.results) < 4 * 39 - 10


@pytest.mark.parametrize(("seed", "own"), [(0, True), (1, True), (2, False)])
def test_tokens_do_not_depend_on_the_schedule(
    tiny: Case, drive: Drive, schedule: Schedule, seed: int, own: bool
) -> None:
    modes = frozenset({"chunks", "layers", "interrupts", "recompute", "swap", "drafts", "lanes"})
    driver = drive(tiny.model, draft=tiny.model if own else stranger())
    sequences = [driver.add(prompt) for prompt in tiny.prompts]
    schedule(driver, sequences, random.Random(seed), modes)
    assert [sequence.output_ids for sequence in sequences] == tiny.answers
    assert {result.status for result in driver.results} <= {DONE, INTERRUPTED}


def draft_kv(driver: Driver) -> DraftKv:
    drafter = driver.executor._compute._drafter
    assert drafter
    return drafter._kv


def accepted(driver: Driver, sequence: Sequence) -> int:
    """How many of the next drafts are right."""
    result = driver.step(Work(sequence, 1 + DRAFTS, None, DRAFTS))
    assert result.status == DONE, result.error
    return result.done[0].emitted - 1


def test_preempted_by_recompute_it_drafts_at_once(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model, draft=tiny.model)
    sequence = driver.add(tiny.prompts[2])
    driver.prefill(sequence)
    assert accepted(driver, sequence) == DRAFTS
    sequence.computed_tokens = 0
    driver.drop_blocks(sequence)
    other = driver.add(tiny.prompts[3], 8)  # into the same blocks
    driver.prefill(other)
    while sequence.remaining_tokens > 1:
        driver.step(Work(sequence, min(9, sequence.remaining_tokens)))
    assert accepted(driver, sequence) == DRAFTS
    driver.finish(sequence, other, drafts=DRAFTS)
    assert [other.output_ids, sequence.output_ids] == [tiny.answers[3][:8], tiny.answers[2]]


def test_swapped_it_drafts_again(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model, draft=tiny.model)
    sequence = driver.add(tiny.prompts[2])
    driver.prefill(sequence)
    assert accepted(driver, sequence) == DRAFTS
    driver.move(SWAP_OUT, sequence)
    driver.drop_blocks(sequence)
    other = driver.add(tiny.prompts[3], 8)
    driver.prefill(other)
    driver.grow(sequence, sequence.computed_tokens)
    driver.move(SWAP_IN, sequence)
    assert accepted(driver, sequence) == DRAFTS
    driver.finish(sequence, other, drafts=DRAFTS)
    assert [other.output_ids, sequence.output_ids] == [tiny.answers[3][:8], tiny.answers[2]]


def test_who_comes_from_elsewhere_is_drafted_for(tiny: Case, drive: Drive) -> None:
    exchange = KvExchange()
    here = drive(tiny.model, exchange=exchange)
    there = drive(tiny.model, exchange=exchange, draft=tiny.model)
    source = here.add(tiny.prompts[2], request_id=7)
    here.prefill(source)
    here.move(EXPORT, source)
    target = there.add(tiny.prompts[2], request_id=7)
    target.output_ids = list(source.output_ids or [])
    target.computed_tokens, target.total_tokens = source.computed_tokens, source.total_tokens
    target.output_tokens = source.output_tokens
    there.grow(target, target.computed_tokens)
    there.move(IMPORT, target)
    assert accepted(there, target) == DRAFTS
    there.finish(target, drafts=DRAFTS)
    assert target.output_ids == tiny.answers[2]


@pytest.mark.parametrize("followed", [True, False])
def test_blocks_of_the_prefix_cache_are_shared_by_the_drafter(
    tiny: Case, drive: Drive, followed: bool
) -> None:
    driver = drive(tiny.model, draft=tiny.model)
    first, second = driver.add(tiny.prompts[3]), driver.add(tiny.prompts[3])
    # one token at a time is a decode, which the drafter does not follow
    driver.prefill(first, 40 if followed else 1)
    kv = draft_kv(driver)
    entry = driver.executor._books.entry(first)
    assert kv.known(entry.trail.marks(entry.tokens, 40), first.blocks) == 40 * followed
    second.blocks = first.blocks[:9]
    second.computed_tokens = second.cached_tokens = 36
    driver.step(Work(second, 4), Work(first, 1))
    assert accepted(driver, second) == DRAFTS
    driver.finish(first, second, drafts=DRAFTS)
    assert first.output_ids == second.output_ids == tiny.answers[3]


def test_what_is_far_behind_catches_up_over_steps(drive: Drive) -> None:
    model = tiny_model()
    driver = drive(model, draft=model, block_tokens=16)
    draw = random.Random(1)
    prompt = [2, *(draw.randrange(3, 500) for _ in range(CATCH_UP + 100))]
    sequence = driver.add(prompt, 30)
    driver.prefill(sequence)
    draft_kv(driver)._marks[:] = NOBODY  # nobody's, as after a swap
    assert [accepted(driver, sequence) for _ in range(3)] == [0, DRAFTS, DRAFTS]


def test_after_steps_without_drafts_it_catches_up(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model, draft=tiny.model)
    sequence = driver.add(tiny.prompts[1])
    driver.prefill(sequence)
    for _ in range(10):
        driver.step(Work(sequence, 1))
    assert accepted(driver, sequence) == DRAFTS
    assert accepted(driver, sequence) == DRAFTS


def test_what_was_drafted_and_accepted_is_not_computed_again(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model, draft=tiny.model)
    sequence = driver.add(tiny.prompts[1])
    driver.prefill(sequence)
    entry, kv = driver.executor._books.entry(sequence), draft_kv(driver)
    for _ in range(4):
        assert accepted(driver, sequence) == DRAFTS
        marks = entry.trail.marks(entry.tokens, len(entry.tokens))
        # not the last draft, nor what came after it: nobody has asked what follows them
        assert kv.known(marks, sequence.blocks) == len(marks) - 2


def test_a_chunk_planned_anew_is_drafted_for_anew(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model, draft=tiny.model)
    sequence = driver.add(tiny.prompts[1])
    driver.prefill(sequence)
    driver.step(Work(sequence, 1 + DRAFTS, (0, 4), DRAFTS))
    sequence.partial = None  # what the drafter knows is now ahead of what is computed
    assert accepted(driver, sequence) == DRAFTS
    driver.finish(sequence, drafts=DRAFTS)
    assert sequence.output_ids == tiny.answers[1]


def so_many(layers: int) -> Callable[[int], bool]:
    left = iter(range(layers))
    return lambda _: next(left, None) is not None


def test_stopped_in_blocks_of_another_text_it_leaves_them_to_nobody(
    tiny: Case, drive: Drive
) -> None:
    driver = drive(tiny.model, draft=tiny.model)
    sequence = driver.add(tiny.prompts[1])
    driver.prefill(sequence)
    drafter, kv, before = driver.executor._compute._drafter, draft_kv(driver), tiny.prompts[1]
    assert drafter
    assert kv.known(Trail().marks(before, 9), sequence.blocks) == 9
    after = [*before[:5], 7, 8, 7, 8]
    with torch.inference_mode():
        drafter.run([Wish(after, 9, 9, sequence.blocks, Trail())], so_many(4))
    for text in (before, after):
        assert kv.known(Trail().marks(text, 9), sequence.blocks) == 5


def test_told_to_stop_the_drafter_stops_and_knows_what_it_has_not_done(
    tiny: Case, drive: Drive
) -> None:
    driver = drive(tiny.model, draft=tiny.model)
    sequence = driver.add(tiny.prompts[1])
    driver.prefill(sequence)
    drafter, trail = driver.executor._compute._drafter, Trail()
    assert drafter
    driver.grow(sequence, 40)
    text = [*tiny.prompts[1], *tiny.answers[1]][:20]
    for layers, known, count in ((4, 9, 0), (8 + 3, 20, 1), (100, 22, 3)):
        wish = Wish(text, 20, 1, sequence.blocks, trail, DRAFTS)
        with torch.inference_mode():
            drafter.run([wish], so_many(layers))
        assert len(wish.proposals) == count
        ahead = Trail().marks([*text, *tiny.answers[1][11:13]], 22)
        assert draft_kv(driver).known(ahead, sequence.blocks) == known


text = st.lists(st.integers(0, 1), min_size=1, max_size=9)


@given(st.lists(st.tuples(text, st.permutations(range(4)), st.integers(0, 9)), max_size=9))
def test_a_slot_knows_the_text_it_was_computed_from(
    writes: list[tuple[list[int], list[int], int]],
) -> None:
    kv, truth = DraftKv(tiny_model(), 4, 3), dict[int, tuple[int, ...]]()
    for tokens, blocks, first in writes:
        marks = Trail().marks(tokens, len(tokens))
        slots = [blocks[n // 3] * 3 + n % 3 for n in range(len(tokens))]
        held = [truth.get(slot) == tuple(tokens[: n + 1]) for n, slot in enumerate(slots)]
        known = [*held, False].index(False)
        assert kv.known(marks, blocks) == known
        begin = min(first, known)
        kv.forget(begin, len(tokens) - begin, blocks)
        assert kv.known(marks, blocks) == begin
        kv.learn(begin, marks[begin:].tolist(), blocks)
        truth |= {slots[n]: tuple(tokens[: n + 1]) for n in range(begin, len(tokens))}


def test_aborted_in_the_middle_it_harms_nobody(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model, draft=tiny.model, blocks=48)
    aborted, other = driver.add(tiny.prompts[0]), driver.add(tiny.prompts[1])
    driver.prefill(aborted)
    driver.prefill(other)
    driver.launch([Work(s, 1 + DRAFTS, None, DRAFTS) for s in (aborted, other)])
    aborted.state = FINISHED
    driver.executor.release(aborted.id)
    driver.land()
    driver.drop_blocks(aborted)
    later = driver.add(tiny.prompts[2])
    driver.prefill(later)
    driver.finish(other, later, drafts=DRAFTS)
    assert [other.output_ids, later.output_ids] == [tiny.answers[1], tiny.answers[2]]
    assert not len(driver.executor._books)


def test_a_step_interrupted_while_drafting_resumes(tiny: Case, drive: Drive) -> None:
    driver = drive(tiny.model, draft=tiny.model)
    sequences = [driver.add(prompt, 24) for prompt in tiny.prompts]
    for sequence in sequences:
        driver.prefill(sequence)
    interrupted = 0
    while left := [sequence for sequence in sequences if sequence.state != FINISHED]:
        works = [
            Work(s, s.partial[0], (s.partial[1], 8), DRAFTS)
            if s.partial
            else Work(s, 1 + DRAFTS, None, DRAFTS)
            for s in left
        ]
        driver.launch(works).interrupt(LAYER)
        driver.land()
        interrupted += driver.results[-1].status == INTERRUPTED
    assert interrupted
    assert [s.output_ids for s in sequences] == [answer[:24] for answer in tiny.answers]


def test_a_stop_among_right_drafts_ends_it(tiny: Case, drive: Drive) -> None:
    stop = tiny.answers[1][10]
    until = tiny.answers[1].index(stop) + 1
    driver = drive(tiny.model, stops=[stop], draft=tiny.model)
    sequence = driver.add(tiny.prompts[1])
    driver.prefill(sequence)
    driver.finish(sequence, drafts=4)
    assert sequence.output_ids == tiny.answers[1][:until]


def test_beyond_the_draft_models_context_nothing_is_proposed(tiny: Case, drive: Drive) -> None:
    config = dataclasses.replace(tiny_config(), context_tokens=20)
    short = Decoder(config, tiny_weights(config))
    driver = drive(tiny_model(), draft=short)
    sequence = driver.add(tiny.prompts[0], 40)
    driver.prefill(sequence)
    emitted = []
    while sequence.state != FINISHED:
        emitted.append((sequence.total_tokens, 1 + accepted(driver, sequence)))
    assert {tokens for at, tokens in emitted if at > 20 - DRAFTS} == {1}
    assert max(tokens for _, tokens in emitted) == 1 + DRAFTS


def test_scores_that_are_no_numbers_propose_nothing(tiny: Case, drive: Drive) -> None:
    weights = tiny_weights(tiny_config())
    broken = Decoder(tiny_config(), dataclasses.replace(weights, final=weights.final * math.nan))
    driver = drive(tiny.model, draft=broken)
    sequence = driver.add(tiny.prompts[1])
    driver.prefill(sequence)
    driver.finish(sequence, drafts=DRAFTS)
    assert sequence.output_ids == tiny.answers[1]


def test_another_vocabulary_is_refused(tiny: Case, drive: Drive) -> None:
    config = dataclasses.replace(tiny_config(), vocabulary=500)
    other = Decoder(config, tiny_weights(config))
    with pytest.raises(OptionError, match="has 500 tokens, the model 512: choose"):
        drive(tiny.model, draft=other)
