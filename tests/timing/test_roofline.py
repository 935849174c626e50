"""The roofline against hand-worked times, and the laws that any such model obeys."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings, strategies as st

from headway.core import Step, Transfer, Work
from headway.core.plan import EXPORT, SWAP_OUT
from headway.errors import OptionError
from headway.timing import DeviceSheet, Roofline, load_device, load_model

from .steps import chunk, decode, grown, prompt, step

MODELS = ("llama-3.1-8b", "gemma-3-270m", "deepseek-v3", "gpt-oss-20b", "phi-2")
CONTEXTS = st.integers(0, 3_000)


def bare(name: str, compute: float = 1.0, memory: float = 1.0) -> DeviceSheet:
    """A device without any overhead."""
    return replace(
        load_device(name),
        compute_efficiency=compute,
        memory_efficiency=memory,
        kernel_ns=0,
        launch_ns=0,
        step_ns=0,
        sequence_ns=0,
    )


@cache
def roofline(model: str, tp: int = 1) -> Roofline:
    return Roofline(load_model(model), load_device("h100"), tp)


def works_of(decodes: list[int], chunks: list[tuple[int, int]]) -> list[Work]:
    return [*(decode(c) for c in decodes), *(chunk(q, c) for q, c in chunks)]


@pytest.mark.parametrize(
    "batch, memory, milliseconds",
    [(1, 1.0, 4.52), (1, 0.8, 5.65), (128, 1.0, 9.61), (128, 0.8, 12.0)],
)
def test_decode_of_an_8b_model_on_an_h100(batch: int, memory: float, milliseconds: float) -> None:
    timing = Roofline(load_model("llama-3.1-8b"), bare("h100", memory=memory))
    found = timing.durations_ns(step(*[decode(1_024) for _ in range(batch)]), 1)[0]
    assert found / 1e6 == pytest.approx(milliseconds, rel=0.005)


@pytest.mark.parametrize(
    "tokens, compute, milliseconds",
    [(2_048, 1.0, 30.0), (2_048, 0.6, 50.0), (8_192, 1.0, 133)],
)
def test_prefill_of_an_8b_model_on_an_h100(
    tokens: int, compute: float, milliseconds: float
) -> None:
    timing = Roofline(load_model("llama-3.1-8b"), bare("h100", compute=compute))
    # The head is bound by memory here, a little above the pure arithmetic of the golden value.
    assert timing.chunk_time_ns(tokens) / 1e6 == pytest.approx(milliseconds, rel=0.012)


@settings(max_examples=60, deadline=None)
@given(
    model=st.sampled_from(MODELS),
    decodes=st.lists(CONTEXTS, max_size=8),
    chunks=st.lists(st.tuples(st.integers(2, 300), CONTEXTS), max_size=2),
    repeats=st.sampled_from([1, 2, 5, 47, 48, 90]),
    tp=st.sampled_from([1, 4]),
)
def test_a_leap_equals_single_steps_to_the_nanosecond(
    model: str, decodes: list[int], chunks: list[tuple[int, int]], repeats: int, tp: int
) -> None:
    works = works_of(decodes, chunks) or [decode(7)]
    timing = roofline(model, tp)
    leap = timing.durations_ns(step(*works, repeats=repeats), repeats)
    single = [timing.durations_ns(step(*grown(works, j)), 1)[0] for j in range(repeats)]
    assert leap == single


@settings(max_examples=30, deadline=None)
@given(
    model=st.sampled_from(MODELS),
    contexts=st.lists(CONTEXTS, min_size=1, max_size=4),
    pad=st.sampled_from([None, 64]),
    ranged=st.booleans(),
)
def test_a_leap_equals_single_steps_with_padding_and_layer_ranges(
    model: str, contexts: list[int], pad: int | None, *, ranged: bool
) -> None:
    timing = roofline(model)
    layers = (0, timing.layers // 2) if ranged else None
    chunks = [chunk(20, c)._replace(pad_to=pad, layers=layers) for c in contexts]
    works = [decode(contexts[0]), *chunks]
    leap = timing.durations_ns(step(*works, repeats=6), 6)
    assert leap == [timing.durations_ns(step(*grown(works, j)), 1)[0] for j in range(6)]


@settings(max_examples=60, deadline=None)
@given(
    model=st.sampled_from(MODELS),
    decodes=st.lists(CONTEXTS, min_size=1, max_size=6),
    chunks=st.lists(st.tuples(st.integers(2, 400), CONTEXTS), max_size=2),
    more=CONTEXTS,
)
def test_time_never_falls_with_batch_or_context(
    model: str, decodes: list[int], chunks: list[tuple[int, int]], more: int
) -> None:
    timing = roofline(model)
    before = timing.durations_ns(step(*works_of(decodes, chunks)), 1)[0]
    longer = [decodes[0] + more, *decodes[1:]]
    assert timing.durations_ns(step(*works_of(longer, chunks)), 1)[0] >= before
    assert timing.durations_ns(step(*works_of([*decodes, more], chunks)), 1)[0] >= before


@given(batch=st.integers(1, 64), context=CONTEXTS)
def test_twice_the_bandwidth_halves_memory_bound_time(batch: int, context: int) -> None:
    device = bare("h100")
    faster = replace(device, memory_bytes_per_s=2 * device.memory_bytes_per_s)
    works = step(*[decode(context) for _ in range(batch)])
    model = load_model("llama-3.1-8b")
    slow = Roofline(model, device).durations_ns(works, 1)[0]
    assert Roofline(model, faster).durations_ns(works, 1)[0] == pytest.approx(slow / 2, abs=1)


@pytest.mark.parametrize("works", [[decode(2_000)] * 16, [chunk(4_096, 0)]])
def test_tensor_parallel_divides_the_work_and_adds_all_reduces(works: list[Work]) -> None:
    model, device = load_model("llama-3.1-70b"), bare("h100")
    instant = replace(device.scale_up, bytes_per_s=1e30, latency_ns=0)
    free = replace(device, scale_up=instant)
    alone = Roofline(model, free).durations_ns(step(*works), 1)[0]
    split = Roofline(model, free, 4).durations_ns(step(*works), 1)[0]
    assert split == pytest.approx(alone / 4, abs=2)
    slow = replace(device, scale_up=replace(instant, latency_ns=1_000))
    rows = any(work.tokens == 1 for work in works)
    messages = 2 * model.layers + rows  # the logits are gathered once
    assert Roofline(model, slow, 4).durations_ns(step(*works), 1)[0] - split == messages * 1_000


def test_layer_ranges_share_out_a_step() -> None:
    timing = Roofline(load_model("llama-3.1-8b"), bare("h100"))
    whole = timing.durations_ns(step(chunk(512, 100, ends=True)), 1)[0]
    parts = [
        timing.durations_ns(step(chunk(512, 100, ends=True)._replace(layers=part)), 1)[0]
        for part in ((0, 8), (8, 32))
    ]
    assert sum(parts) == pytest.approx(whole, abs=2)
    unfinished = timing.durations_ns(step(chunk(512, 100)._replace(layers=(8, 32))), 1)[0]
    assert unfinished < parts[1]  # no head


@pytest.mark.parametrize("model", MODELS)
def test_the_full_range_is_the_whole_model(model: str) -> None:
    timing = roofline(model)
    works = [decode(700), decode(90), chunk(64, 1_000), chunk(32, 10, ends=True)]
    ranged = [work._replace(layers=(0, timing.layers)) for work in works]
    found = timing.durations_ns(step(*ranged), 1)[0]
    assert found == pytest.approx(timing.durations_ns(step(*works), 1)[0], abs=1)


def test_only_works_that_end_their_input_pay_for_logits() -> None:
    timing = roofline("gemma-3-270m")  # whose head is most of it
    without = timing.durations_ns(step(chunk(64, 0)), 1)[0]
    assert timing.durations_ns(step(chunk(64, 0, ends=True)), 1)[0] > without
    assert (
        timing.durations_ns(step(Work(prompt(64, 90), 1)), 1)[0]
        < timing.durations_ns(step(decode(64)), 1)[0]
    )


def test_drafts_bring_rows_of_logits() -> None:
    timing = Roofline(load_model("gemma-3-270m"), bare("cpu"))
    drafted = Work(prompt(64, 65), 9, draft_tokens=8)
    plain = Work(prompt(64, 73), 9)  # nine tokens that end a prompt: one row
    assert timing.durations_ns(step(drafted), 1)[0] > timing.durations_ns(step(plain), 1)[0]


def test_padding_costs_as_much_as_tokens() -> None:
    timing = roofline("llama-3.1-8b")
    padded = timing.durations_ns(step(chunk(400, 0)._replace(pad_to=2_048)), 1)[0]
    assert padded > timing.durations_ns(step(chunk(400, 0)), 1)[0]
    exact = timing.durations_ns(step(chunk(2_048, 0)), 1)[0]
    assert padded == pytest.approx(exact, rel=0.01)


def test_pending_tokens_are_context() -> None:
    timing = roofline("llama-3.1-8b")
    ahead = prompt(1_000, 1_001)
    ahead.computed_tokens, ahead.pending_tokens = 400, 600
    assert timing.durations_ns(step(ahead.decode), 1) == timing.durations_ns(step(decode(1_000)), 1)


@given(decodes=st.integers(1, 40), context=CONTEXTS, tokens=st.integers(2, 900))
def test_planners_ask_the_same_formulas(decodes: int, context: int, tokens: int) -> None:
    for name in ("llama-3.1-8b", "gemma-3-270m"):
        timing = roofline(name)
        works = [decode(context) for _ in range(decodes)]
        asked = timing.step_ns(decodes, decodes * context, [(tokens, context)])
        assert asked == timing.durations_ns(step(*works, chunk(tokens, context)), 1)[0]
        alone = timing.durations_ns(step(chunk(tokens, context, ends=True)), 1)[0]
        assert timing.chunk_time_ns(tokens, context) == alone


def test_windows_cap_what_long_contexts_cost() -> None:
    windowed = load_model("gemma-3-270m")
    plain = replace(windowed, window=None, windowed_layers=0)
    device = bare("cpu")
    works = [step(*[decode(context) for _ in range(16)]) for context in (400, 8_000)]
    short, long = (Roofline(windowed, device).durations_ns(each, 1)[0] for each in works)
    plain_short, plain_long = (Roofline(plain, device).durations_ns(each, 1)[0] for each in works)
    assert short == plain_short
    assert short < long < plain_long


def test_eager_launches_cost_more_than_graphs() -> None:
    model, device = load_model("qwen3-0.6b"), load_device("h100")
    works = step(decode(100))
    eager = Roofline(model, device, graphs=False).durations_ns(works, 1)[0]
    assert eager > Roofline(model, device).durations_ns(works, 1)[0]


def test_transfers_take_the_host_link_or_the_peer_link() -> None:
    model, device = load_model("llama-3.1-8b"), load_device("h100")
    sequence = prompt(100, 200)
    timing = Roofline(model, device, block_tokens=32, peer_link=device.scale_up)
    swap = timing.transfer_ns(Transfer(1, SWAP_OUT, sequence, 10))
    expected = device.host.latency_ns + 320 * 131_072 / (64e9 * device.host.efficiency) * 1e9
    assert swap == pytest.approx(expected, abs=1)
    assert timing.transfer_ns(Transfer(2, EXPORT, sequence, 10, "other")) < swap
    assert timing.transfer_ns(Transfer(3, SWAP_OUT, sequence, 0)) == 0
    split = Roofline(model, device, 2, block_tokens=32)
    assert split.transfer_ns(Transfer(1, SWAP_OUT, sequence, 10)) < swap


def test_blocks_of_no_tokens_are_refused() -> None:
    with pytest.raises(OptionError, match="block_tokens"):
        Roofline(load_model("qwen3-8b"), load_device("h100"), block_tokens=0)


def test_works_on_disjoint_layers_share_a_step_without_meeting() -> None:
    timing = Roofline(load_model("llama-3.1-8b"), bare("h100"))
    low, high = (chunk(512, 0)._replace(layers=part) for part in ((0, 4), (20, 32)))
    together = timing.durations_ns(step(low, high), 1)[0]
    apart = sum(timing.durations_ns(step(each), 1)[0] for each in (low, high))
    assert together == pytest.approx(apart, abs=2)


def test_an_empty_step_still_ends_later() -> None:
    assert roofline("llama-3.1-8b").durations_ns(Step(0, "main", ()), 1)[0] > 0


@pytest.mark.parametrize("tp", [-1, 0, 3, 7, 65, 128])
def test_impossible_parallelism_names_the_nearest_sizes(tp: int) -> None:
    with pytest.raises(OptionError, match=r"use \d+"):
        Roofline(load_model("llama-3.1-8b"), load_device("h100"), tp)
