"""Parameter counts and KV sizes against published values, and shapes that must agree with one another."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from headway.errors import OptionError, UnknownNameError
from headway.timing import Experts, ModelSheet, load_model, model_names, step_weight_bytes

MILLION = 10**6


@pytest.mark.parametrize(
    "name, parameters_m, within_m",
    [
        ("llama-3.1-8b", 8_030, 0.5),
        ("llama-3.1-70b", 70_550, 5),
        ("llama-3.1-405b", 405_850, 5),
        ("mixtral-8x7b", 46_700, 5),
        ("deepseek-v3", 671_000, 50),
        ("qwen3-0.6b", 596, 0.5),
        ("gemma-3-270m", 268, 0.5),
        ("smollm2-135m", 134.5, 0.05),
        ("smollm2-360m", 361.8, 0.05),
        ("llama-2-7b", 6_738, 1),
        ("opt-13b", 12_850, 15),
        ("gpt-oss-20b", 20_910, 10),
        ("gpt-oss-120b", 116_800, 50),
        ("qwen3-30b-a3b", 30_530, 5),
        ("qwen3-235b-a22b", 235_090, 10),
        ("phi-2", 2_780, 5),
    ],
)
def test_parameters_match_the_published_count(
    name: str, parameters_m: float, within_m: float
) -> None:
    assert load_model(name).parameters / MILLION == pytest.approx(parameters_m, abs=within_m)


def test_llama_blocks_without_embedding_and_head() -> None:
    assert load_model("llama-3.1-8b").block_parameters / MILLION == pytest.approx(6_979, abs=0.5)


def test_active_parameters_of_experts() -> None:
    assert load_model("mixtral-8x7b").active_parameters / MILLION == pytest.approx(12_880, abs=5)
    deepseek = load_model("deepseek-v3")
    routers = 58 * deepseek.hidden * 256
    # The published 36.5 B leave out the routers and the input embedding.
    counted = deepseek.active_parameters - deepseek.head_parameters - routers
    assert counted / MILLION == pytest.approx(36_500, abs=50)


@pytest.mark.parametrize(
    "name, kv_bytes",
    [
        ("llama-3.1-8b", 131_072),
        ("llama-3.1-70b", 327_680),
        ("mixtral-8x7b", 131_072),
        ("deepseek-v3", 70_272),
        ("yi-34b", 245_760),
        ("qwen3-0.6b", 114_688),
        ("smollm2-135m", 23_040),
        ("smollm2-360m", 40_960),
        ("gemma-3-270m", 18_432),
    ],
)
def test_kv_bytes_per_token_are_exact(name: str, kv_bytes: int) -> None:
    assert load_model(name).kv_bytes_per_token() == kv_bytes


def test_tensor_parallel_splits_kv_heads_then_replicates_them() -> None:
    model = load_model("llama-3.1-8b")
    assert model.kv_bytes_per_token(4) * 4 == model.kv_bytes_per_token()
    assert model.kv_bytes_per_token(16) == model.kv_bytes_per_token(8)
    latent = load_model("deepseek-v3")
    assert latent.kv_bytes_per_token(8) == latent.kv_bytes_per_token()


def test_windowed_layers_stop_growing() -> None:
    gemma = load_model("gemma-3-270m")
    assert gemma.kv_bytes(512) == 512 * 18_432
    growth = gemma.kv_bytes(2_000) - gemma.kv_bytes(1_999)
    assert growth == 18_432 * 3 // 18


@given(heads=st.sampled_from([4, 8, 32]), size=st.sampled_from([64, 128]))
def test_as_many_kv_heads_as_heads_is_plain_multi_head(heads: int, size: int) -> None:
    hidden = heads * size
    model = ModelSheet("m", 2, hidden, heads, heads, size, 4 * hidden, 1000, 2048)
    assert model.attention_parameters == 4 * hidden * hidden
    assert model.kv_bytes_per_token() == 2 * 2 * hidden * 2


@given(count=st.integers(2, 16), inner=st.sampled_from([128, 512]), tokens=st.integers(1, 300))
def test_visiting_every_expert_equals_a_dense_ffn(count: int, inner: int, tokens: int) -> None:
    shape = ModelSheet("m", 3, 256, 4, 2, 64, count * inner, 1000, 2048)
    sparse = replace(shape, experts=Experts(count, count, inner))
    routers = sparse.layers * sparse.hidden * count
    assert sparse.active_parameters == sparse.parameters == shape.parameters + routers
    assert sparse.hit_experts(tokens) == count
    assert step_weight_bytes(sparse, tokens) == step_weight_bytes(shape, tokens) + 2 * routers


@pytest.mark.parametrize(
    "count, top_k, tokens, hit",
    [
        (8, 2, 1, 2),
        (8, 2, 2, 3.5),
        (8, 2, 4, 5.47),
        (8, 2, 8, 7.20),
        (256, 8, 16, 102),
        (256, 8, 64, 222),
    ],
)
def test_expected_experts_hit(count: int, top_k: int, tokens: int, hit: float) -> None:
    experts = Experts(count, top_k, 64)
    model = ModelSheet("m", 1, 64, 1, 1, 64, 0, 100, 100, experts=experts)
    assert model.hit_experts(tokens) == pytest.approx(hit, rel=0.005)


def test_every_bundled_sheet_loads_and_approximations_are_labelled() -> None:
    assert len(model_names()) >= 25
    for name in model_names():
        model = load_model(name)
        assert model.parameters >= model.active_parameters > 0
        assert bool(model.approximate) == (model.experts is not None)


def test_precision_changes_bytes_but_not_parameters() -> None:
    base = load_model("llama-3.1-8b")
    small = load_model("llama-3.1-8b", "int4")
    assert small.parameters == base.parameters
    assert small.weight_bytes < 0.4 * base.weight_bytes
    assert load_model("gpt-oss-120b").weight_bytes / 1e9 == pytest.approx(65, abs=1)
    assert load_model("deepseek-v3").weight_bytes / 1e9 == pytest.approx(673, abs=2)
    with pytest.raises(UnknownNameError, match="bf16"):
        base.at("bf61")


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(OptionError, match="KV heads"):
        ModelSheet("m", 1, 64, 6, 4, 16, 64, 100, 100)
    with pytest.raises(OptionError, match="below 1"):
        ModelSheet("m", 0, 64, 4, 4, 16, 64, 100, 100)
    with pytest.raises(OptionError, match="more windowed"):
        ModelSheet("m", 1, 64, 4, 4, 16, 64, 100, 100, window=8, windowed_layers=2)
    with pytest.raises(OptionError, match="window"):
        ModelSheet("m", 1, 64, 4, 4, 16, 64, 100, 100, windowed_layers=1)
