"""Draws that depend on (seed, position) only, and filters and penalties that mean what they mean elsewhere."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.stats import chisquare, kstest  # type: ignore[import-untyped]

from headway.core.plan import DONE, INTERRUPTED, Work
from headway.core.sampling import GREEDY, Sampling
from headway.core.sequence import FINISHED
from headway.engine.check_request import why_not
from headway.engine.drafts import PromptLookup
from headway.engine.draws import draw, uniform
from headway.engine.largest import largest, peak
from headway.engine.sampler import AT_ONCE, Chooser, Row, choose

transformers = pytest.importorskip("transformers")

if TYPE_CHECKING:
    from tests.engine.conftest import Case, Driver

    Drive = Callable[..., Driver]
    Schedule = Callable[..., None]

pytestmark = pytest.mark.slow
seeds = st.integers(0, 2**63)


def random_scores(seed: int, size: int, spread: float = 2.0) -> torch.Tensor:
    return torch.randn(1, size, generator=torch.Generator().manual_seed(seed % 2**31)) * spread


# -- one draw ------------------------------------------------------------------------------------------------------


def test_uniforms_of_neighbouring_seeds_and_positions_are_independent() -> None:
    for draws in (
        [uniform(7, position) for position in range(4000)],
        [uniform(seed, 7) for seed in range(4000)],
    ):
        assert kstest(draws, "uniform").pvalue > 1e-4
        pairs = Counter((int(a * 4), int(b * 4)) for a, b in pairwise(draws))
        assert chisquare(list(pairs.values())).pvalue > 1e-4
        assert len(pairs) == 16


@pytest.mark.parametrize("seed", [-1, 0, 2**63, -(2**63)])
def test_any_seed_will_do(seed: int) -> None:
    assert 0 <= uniform(seed, 0) < 1
    assert uniform(seed, 0) != uniform(seed, 1)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0),
        Sampling(temperature=0.7),
        Sampling(temperature=1.5, top_k=9, top_p=0.95, min_p=0.01),
    ],
)
def test_frequencies_are_the_softmax(sampling: Sampling) -> None:
    scores, draws = random_scores(3, 16, 1.0), 10_000
    likely = expected(scores, sampling)
    rows = scores.repeat(500, 1)
    drawn = Counter[int]()
    for begin in range(0, draws, len(rows)):
        uniforms = [uniform(seed, 11) for seed in range(begin, begin + len(rows))]
        drawn.update(draw(rows.clone(), [sampling] * len(rows), uniforms))
    kept = likely.nonzero()[:, 0].tolist()
    assert set(drawn) == set(kept)
    observed = [drawn[token] for token in kept]
    assert chisquare(observed, [float(likely[token]) * draws for token in kept]).pvalue > 1e-4


def expected(scores: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """What transformers' processors make of scores (1, V): probabilities (V,) in fp64."""
    warpers = [transformers.TemperatureLogitsWarper(sampling.temperature)]
    if sampling.top_k:
        warpers.append(transformers.TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(transformers.TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        warpers.append(transformers.MinPLogitsWarper(sampling.min_p))
    warped: torch.Tensor = transformers.LogitsProcessorList(warpers)(
        torch.zeros(1, 1, dtype=torch.long), scores
    )
    return warped[0].double().softmax(-1)


@settings(max_examples=80, deadline=None)
@given(
    seeds,
    st.sampled_from([1, 2, 5, 100, 512, 1300, 4096]),
    st.sampled_from([0.01, 0.5, 2.0, 6.0]),
    st.floats(0.1, 3.0),
    st.one_of(st.just(0), st.integers(1, 60)),
    st.one_of(st.just(1.0), st.floats(0.01, 0.999)),
    st.one_of(st.just(0.0), st.floats(0.001, 1.0)),
)
def test_every_token_has_the_share_that_transformers_gives_it(
    seed: int, size: int, spread: float, temperature: float, k: int, p: float, least: float
) -> None:
    """Aim a uniform at the middle of each token's share of the running sum: it must be hit."""
    scores = random_scores(seed, size, spread)
    sampling = Sampling(temperature=temperature, top_k=k, top_p=p, min_p=least)
    likely = expected(scores, sampling)
    ends = likely.cumsum(-1)
    aimed = (likely > 1e-5).nonzero()[:, 0].tolist()
    aimed = random.Random(seed).sample(aimed, min(40, len(aimed)))
    uniforms = [float(ends[token] - likely[token] / 2) for token in aimed]
    assert draw(scores.repeat(len(aimed), 1), [sampling] * len(aimed), uniforms) == aimed


def test_extreme_uniforms_hit_the_first_and_last_token_that_can_be() -> None:
    scores = torch.tensor([[-torch.inf, 1.0, -torch.inf, 2.0, -torch.inf]]).repeat(4, 1)
    how = [Sampling(temperature=1.0), Sampling(temperature=1.0, top_p=0.99)]
    assert draw(scores, [*how, *how], [0.0, 0.0, 1 - 2**-53, 1 - 2**-53]) == [1, 1, 3, 3]


@pytest.mark.parametrize("least", [{"top_p": 5e-324}, {"min_p": 1.0}, {"top_k": 1}])
def test_the_smallest_set_a_filter_can_keep_is_the_best_token(least: dict[str, Any]) -> None:
    how = Sampling(temperature=2.0, **least)
    assert not why_not([1], how, frozenset(), 100)
    scores = random_scores(3, 500, 4.0)
    assert (
        draw(scores.repeat(3, 1), [how] * 3, [0.0, 0.5, 1 - 2**-53]) == [int(scores.argmax())] * 3
    )


def test_equals_at_the_edge_of_a_filter_are_kept_together() -> None:
    scores = torch.tensor([1.0, 3.0, 3.0, 3.0, 0.0]).repeat(64, 1)
    for sampling in (Sampling(temperature=1.0, top_k=2), Sampling(temperature=1.0, top_p=0.5)):
        uniforms = [(n + 0.5) / 64 for n in range(64)]
        assert set(draw(scores.clone(), [sampling] * 64, uniforms)) == {1, 2, 3}
    many = torch.zeros(1, 8192)  # more equals than candidates
    many[:, 5000] = 1.0
    middle = draw(many.clone(), [Sampling(temperature=1.0, top_k=2)], [0.25])
    assert 1000 < middle[0] < 5000


def test_cold_draws_are_greedy_and_very_cold_ones_do_not_overflow() -> None:
    scores = random_scores(1, 4096)
    for temperature in (1e-3, 1e-4, 1.1e-5, 1e-6, 1e-300):
        chooser = Chooser(Sampling(temperature=temperature), frozenset(), 1)
        (token,) = choose(scores, [Row(chooser, 1)]).ids
        assert token == scores.argmax()


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 4), st.sampled_from([7, 128, 500, 4096]), st.booleans())
def test_largest_and_peak_are_those_of_torch(
    seed: int, count: int, size: int, coarse: bool
) -> None:
    scores = random_scores(seed, 3 * size).view(3, size)
    scores = scores.bfloat16() if coarse else scores  # bf16: many equals
    found = largest(scores, count)
    assert torch.equal(found.values, scores.topk(count).values)
    assert torch.equal(scores.gather(-1, found.ids), found.values)
    assert all(len(set(ids)) == count for ids in found.ids.tolist())
    assert peak(scores).ids[:, 0].tolist() == [row.index(max(row)) for row in scores.tolist()]


# -- what a request asks for ---------------------------------------------------------------------------------------


def one(
    scores: torch.Tensor, sampling: Sampling, tokens: Sequence[int], prompt: int, **more: Any
) -> int:
    chooser = Chooser(sampling, more.get("ends", frozenset()), prompt)
    chooser.follow(tokens)
    ahead = more.get("ahead", ())
    return choose(scores, [Row(chooser, len(tokens) + len(ahead), ahead)]).ids[0]


texts = st.lists(st.integers(0, 39), min_size=1, max_size=30)


@settings(max_examples=80, deadline=None)
@given(seeds, texts, texts, st.floats(0.5, 2.0), st.floats(-2, 2), st.floats(-2, 2))
def test_penalties_change_scores_as_elsewhere(
    seed: int, prompt: list[int], output: list[int], repeat: float, often: float, once: float
) -> None:
    scores = random_scores(seed, 40)
    tokens = prompt + output
    wanted = transformers.RepetitionPenaltyLogitsProcessor(repeat)(
        torch.tensor([tokens]), scores.clone()
    )[0]
    for token, count in Counter(output).items():
        wanted[token] -= often * count + once
    sampling = Sampling(
        repetition_penalty=repeat, frequency_penalty=often, presence_penalty=once, logprobs=0
    )
    assert one(scores, sampling, tokens, len(prompt)) == wanted.argmax()
    drawn = replace(sampling, temperature=0.8, seed=seed)
    share = (wanted / 0.8).double().softmax(-1).cumsum(-1)
    aim = torch.searchsorted(share, uniform(seed, len(tokens)), right=True)
    assert one(scores, drawn, tokens, len(prompt)) == aim
    split = len(output) // 2  # drafts count as said, and are forgotten afterwards
    chooser = Chooser(sampling, frozenset(), len(prompt))
    for ahead in (output[split:], [], output[split:]):
        chooser.follow(tokens[: len(prompt) + split])
        row = Row(chooser, len(prompt) + split + len(ahead), ahead)
        if ahead:
            assert choose(scores, [row]).ids == [wanted.argmax()]


def test_bias_favours_and_forbids() -> None:
    scores = random_scores(2, 300)
    best = int(scores.argmax())
    other = (best + 1) % 300
    assert one(scores, Sampling(logit_bias=((best, -100.0),)), [5], 1) != best
    assert one(scores, Sampling(logit_bias=((other, 100.0),)), [5], 1) == other
    hot = Sampling(temperature=1.0, logit_bias=((other, 100.0),))
    assert {one(scores, replace(hot, seed=seed), [5], 1) for seed in range(50)} == {other}


def test_no_end_before_min_tokens_whatever_the_bias() -> None:
    scores = random_scores(2, 300)
    best = int(scores.argmax())
    sampling = Sampling(min_tokens=3, logit_bias=((best, 50.0),))
    ends = frozenset({best})
    said = [one(scores, sampling, [5] * length, 2, ends=ends) for length in range(2, 7)]
    assert [token == best for token in said] == [False, False, False, True, True]


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(0, 20), st.booleans())
def test_logprobs_are_of_the_model_before_anything_was_adjusted(
    seed: int, count: int, coarse: bool
) -> None:
    scores = random_scores(seed, 600)
    scores = scores.bfloat16() if coarse else scores
    before = scores.clone()
    sampling = Sampling(
        temperature=2.0,
        top_k=5,
        seed=seed,
        repetition_penalty=1.5,
        logit_bias=((3, 5.0),),
        logprobs=count,
    )
    chooser = Chooser(sampling, frozenset(), 2)
    chooser.follow([3, 4])
    (token,), found = choose(scores, [Row(chooser, 2)])
    assert torch.equal(scores, before)
    model = scores[0].float().log_softmax(-1)
    assert found[0].logprob == pytest.approx(float(model[token]), abs=1e-5)
    assert len(found[0].top) == count
    assert [p for _, p in found[0].top] == pytest.approx(
        model.topk(count).values.tolist(), abs=1e-5
    )
    assert all(p == pytest.approx(float(model[token]), abs=1e-5) for token, p in found[0].top)


def test_a_batch_is_chosen_as_each_row_alone() -> None:
    rows, scores = [], random_scores(9, 3 * AT_ONCE * 512).view(3 * AT_ONCE, 512)
    for n in range(3 * AT_ONCE):
        chooser = Chooser(WAYS[n % len(WAYS)], frozenset({1}), 4)
        chooser.follow([5, 6, 7, 8, 9, n])
        rows.append(Row(chooser, 6))
    together = choose(scores, rows)
    for n, row in enumerate(rows):
        alone = choose(scores[n : n + 1], [row])
        assert alone.ids == together.ids[n : n + 1]
        asked = row.chooser.sampling.logprobs is not None
        assert (n in together.logprobs) == (0 in alone.logprobs) == asked
        if asked:
            assert alone.logprobs[0].logprob == pytest.approx(together.logprobs[n].logprob)


# -- the law: seed and position, nothing else ----------------------------------------------------------------------

WAYS = [
    GREEDY,
    Sampling(temperature=1.0, seed=1),
    Sampling(temperature=0.8, seed=2, top_k=20, top_p=0.9, logprobs=2),
    Sampling(temperature=1.2, seed=3, min_p=0.02, repetition_penalty=1.3),
    Sampling(repetition_penalty=1.5, frequency_penalty=0.3, logprobs=0),
    Sampling(temperature=0.9, seed=4, presence_penalty=0.7, logit_bias=((9, 1.5), (30, -100.0))),
    Sampling(temperature=1.0, seed=5, top_p=0.7, min_tokens=20, stop_ids=tuple(range(50, 90))),
]


@pytest.fixture(scope="module")
def alone(tiny: Case) -> list[list[int]]:
    """What each way of sampling says of each prompt when nothing else runs."""
    from tests.engine.conftest import Driver

    driver, said = Driver(tiny.model), []
    for prompt, sampling in pairs(tiny):
        sequence = driver.add(prompt, sampling=sampling)
        driver.prefill(sequence)
        driver.finish(sequence)
        said.append(sequence.output_ids or [])
    driver.close()
    return said


def pairs(case: Case) -> list[tuple[tuple[int, ...], Sampling]]:
    return [(case.prompts[n % len(case.prompts)], sampling) for n, sampling in enumerate(WAYS)]


@pytest.mark.parametrize("seed", range(2))
def test_what_is_drawn_does_not_depend_on_the_schedule(
    tiny: Case, drive: Drive, schedule: Schedule, alone: list[list[int]], seed: int
) -> None:
    driver = drive(tiny.model)
    sequences = [driver.add(prompt, sampling=sampling) for prompt, sampling in pairs(tiny)]
    schedule(driver, sequences, random.Random(seed))
    assert [sequence.output_ids for sequence in sequences] == alone
    assert {result.status for result in driver.results} <= {DONE, INTERRUPTED}


def test_the_law_is_worth_testing(alone: list[list[int]]) -> None:
    assert all(len(set(tokens)) > 10 for tokens in alone)
    assert 20 < len(alone[-1]) < 64, "the last way stops early, but not before min_tokens"


def test_another_seed_says_something_else(tiny: Case, drive: Drive) -> None:
    driver, said = drive(tiny.model), set()
    for seed in range(8):
        sequence = driver.add(tiny.prompts[0], 12, sampling=Sampling(temperature=1.0, seed=seed))
        driver.prefill(sequence)
        driver.finish(sequence)
        said.add(tuple(sequence.output_ids or []))
    assert len(said) == 8


class Oracle(PromptLookup):
    """Knows what will be said."""

    def __init__(self, text: list[int]) -> None:
        super().__init__()
        self._text = text

    def propose(self, tokens: Sequence[int], count: int) -> list[int]:
        return (self._text + [0] * count)[len(tokens) :][:count]


@pytest.mark.parametrize("way", range(len(WAYS)))
def test_right_drafts_are_accepted_with_the_same_logprobs(
    tiny: Case, drive: Drive, alone: list[list[int]], way: int
) -> None:
    prompt, sampling = pairs(tiny)[way]
    driver = drive(tiny.model)
    runs = []
    for drafts in (0, 3):
        sequence = driver.add(prompt, sampling=sampling)
        driver.prefill(sequence)
        driver.executor._books.entry(sequence).lookup = Oracle([*prompt, *alone[way]])
        before = len(driver.results)
        driver.finish(sequence, drafts=drafts)
        assert sequence.output_ids == alone[way]
        results = driver.results[before:]
        runs.append([each for result in results for each in result.done[0].logprobs])
    assert len(results) == -(-(len(alone[way]) - 1) // 4)
    for plain, drafted in zip(*runs, strict=True):
        assert plain.logprob == pytest.approx(drafted.logprob, abs=1e-4)
    assert len(runs[0]) == (0 if sampling.logprobs is None else len(alone[way]) - 1)


@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_stops_of_the_model_and_of_the_request(
    tiny: Case, drive: Drive, temperature: float
) -> None:
    def run(stops: Sequence[int], **asked: Any) -> tuple[list[int], bool]:
        driver = drive(tiny.model, stops=stops)
        sampling = Sampling(temperature=temperature, seed=3, **asked)
        sequence = driver.add(tiny.prompts[1], 30, sampling=sampling)
        driver.prefill(sequence)
        driver.finish(sequence)
        return sequence.output_ids or [], driver.results[-1].done[0].ended

    free, ended = run([])
    assert len(free) == 30
    assert not ended
    stop = free[10]
    cut = free[: free.index(stop) + 1]
    assert run([stop]) == (cut, True)
    assert run([], stop_ids=(stop,)) == (cut, True)
    assert run([stop], ignore_eos=True) == (free, False)
    assert run([stop], ignore_eos=True, stop_ids=(stop,)) == (cut, True)
    late, _ = run([stop], min_tokens=15)
    assert stop not in late[:15]
    if not temperature:  # a draw moves when another token is forbidden
        assert late[: len(cut) - 1] == cut[:-1]


def test_a_sampled_request_goes_on_elsewhere_as_it_would_have_here(
    tiny: Case, drive: Drive, alone: list[list[int]]
) -> None:
    """A restart knows prompt and output, nothing of the sampler."""
    driver = drive(tiny.model)
    for (prompt, sampling), said in list(zip(pairs(tiny), alone, strict=True))[2:5]:
        sequence = driver.add(prompt, sampling=sampling)
        sequence.output_ids, sequence.output_tokens = said[:12], 12
        sequence.total_tokens += 12
        while sequence.remaining_tokens > 1:
            driver.step(Work(sequence, min(9, sequence.remaining_tokens)))
        driver.finish(sequence)
        assert sequence.state == FINISHED
        assert sequence.output_ids == said
