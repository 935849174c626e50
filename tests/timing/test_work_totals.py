"""FLOPs and bytes in closed form: they add up, and caches only save."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from headway.errors import OptionError
from headway.timing import (
    Totals,
    chunk_totals,
    decode_totals,
    load_model,
    request_totals,
    step_weight_bytes,
)
from headway.timing.attention_pairs import chunk_pairs, windowed_decode_sums

MODELS = st.sampled_from(["llama-3.1-8b", "gemma-3-270m", "deepseek-v3", "gpt-oss-20b"])


@given(
    tokens=st.integers(0, 60), context=st.integers(0, 80), window=st.none() | st.integers(1, 100)
)
def test_pairs_are_what_counting_gives(tokens: int, context: int, window: int | None) -> None:
    counted = sum(min(context + i, window or context + i) for i in range(1, tokens + 1))
    assert chunk_pairs(tokens, context, window) == counted


@given(contexts=st.lists(st.integers(0, 40)), window=st.integers(1, 50), repeats=st.integers(1, 60))
def test_windowed_sums_are_what_counting_gives(
    contexts: list[int], window: int, repeats: int
) -> None:
    counted = [sum(min(c + j + 1, window) for c in contexts) for j in range(repeats)]
    assert windowed_decode_sums(contexts, window, repeats) == counted


@given(name=MODELS, chunks=st.lists(st.integers(1, 700), min_size=1, max_size=8))
def test_flops_of_a_prefill_do_not_depend_on_its_chunks(name: str, chunks: list[int]) -> None:
    model, context, flops = load_model(name), 0, 0
    for tokens in chunks:
        flops += chunk_totals(model, tokens, context).flops
        context += tokens
    assert flops == chunk_totals(model, context, 0).flops


@given(name=MODELS, steps=st.integers(0, 700), context=st.integers(1, 900))
def test_decodes_in_closed_form_equal_their_sum(name: str, steps: int, context: int) -> None:
    model, total = load_model(name), Totals(0, 0)
    for step in range(steps):
        total = total.plus(decode_totals(model, 1, context + step))
    assert total == decode_totals(model, steps, context)


@given(
    name=MODELS,
    prompt=st.integers(1, 5_000),
    cached=st.integers(0, 5_000),
    output=st.integers(0, 500),
)
def test_a_prefix_hit_never_costs_more(name: str, prompt: int, cached: int, output: int) -> None:
    model = load_model(name)
    hit = request_totals(model, prompt, min(cached, prompt), output)
    cold = request_totals(model, prompt, 0, output)
    assert hit.flops <= cold.flops
    assert hit.kv_bytes <= cold.kv_bytes
    assert hit.flops > 0


def test_chunking_reads_the_earlier_kv_again() -> None:
    model, size, parts = load_model("llama-3.1-8b"), 512, 4
    whole = chunk_totals(model, size * parts, 0).kv_bytes
    chunked = sum(chunk_totals(model, size, size * j).kv_bytes for j in range(parts))
    again = size * parts * (parts - 1) // 2
    assert chunked - whole == 131_072 * again


def test_prefill_of_2048_tokens_in_an_8b_model() -> None:
    model = load_model("llama-3.1-8b")
    assert chunk_totals(model, 2_048, 0, 1).flops == pytest.approx(29.69e12, rel=1e-3)
    assert chunk_totals(model, 8_192, 0, 1).flops == pytest.approx(131.9e12, rel=1e-3)


def test_replicated_kv_is_read_by_every_device() -> None:
    model = load_model("llama-3.1-8b")
    once = decode_totals(model, 10, 100).kv_bytes
    assert decode_totals(model, 10, 100, tp=8).kv_bytes == once
    assert decode_totals(model, 10, 100, tp=16).kv_bytes == 2 * once


def test_a_step_reads_every_dense_weight_once_and_only_the_experts_it_hits() -> None:
    dense = load_model("llama-3.1-8b")
    assert step_weight_bytes(dense, 1) == step_weight_bytes(dense, 500)
    assert step_weight_bytes(dense, 1) == dense.weight_bytes - dense.head_bytes  # no embedding
    sparse = load_model("mixtral-8x7b")
    assert step_weight_bytes(sparse, 1) < 0.4 * step_weight_bytes(sparse, 64)


def test_requests_without_a_prompt_are_refused() -> None:
    with pytest.raises(OptionError, match="prompt"):
        request_totals(load_model("qwen3-8b"), 0, 0, 5)
