"""How many KV blocks fit, and what is said when none do."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from headway.errors import DoesNotFitError, OptionError
from headway.timing import kv_capacity, load_device, load_model


def test_a_real_server_reported_almost_the_same_blocks() -> None:
    """vLLM 0.19 with Llama-3.1-8B on an RTX 4090, 2,048 tokens a step, utilisation 0.9: 2,588 blocks."""
    found = kv_capacity(load_model("llama-3.1-8b"), load_device("4090"), step_tokens=2_048)
    assert found.blocks == pytest.approx(2_588, rel=0.03)
    assert found.tokens == found.blocks * 16


@given(
    tp=st.sampled_from([1, 2, 4, 8]),
    step_tokens=st.integers(1, 16_384),
    utilisation=st.floats(0.5, 0.99),
    block_tokens=st.sampled_from([1, 16, 64]),
)
def test_everything_together_stays_within_the_share(
    tp: int, step_tokens: int, utilisation: float, block_tokens: int
) -> None:
    device = load_device("h100")
    found = kv_capacity(
        load_model("llama-3.1-8b"),
        device,
        tp,
        step_tokens=step_tokens,
        memory_utilisation=utilisation,
        block_tokens=block_tokens,
    )
    used = found.weight_bytes + found.activation_bytes + found.context_bytes + found.kv_bytes
    assert used <= found.available_bytes <= device.memory_bytes * utilisation
    assert used + found.block_bytes > found.available_bytes


def test_more_devices_hold_more_than_twice_the_tokens() -> None:
    model, device = load_model("llama-3.1-70b"), load_device("h200")
    two, four = (kv_capacity(model, device, tp, step_tokens=2_048).tokens for tp in (2, 4))
    assert four > 2 * two


def test_what_does_not_fit_names_a_tensor_parallel_size_that_does() -> None:
    model, device = load_model("llama-3.1-70b"), load_device("h100")
    with pytest.raises(DoesNotFitError, match=r"142\.\d GB .* 76\.\d GB .* tensor parallel 2"):
        kv_capacity(model, device, step_tokens=2_048)
    assert kv_capacity(model, device, 2, step_tokens=2_048).blocks > 0


def test_what_fits_no_group_names_a_larger_device() -> None:
    with pytest.raises(DoesNotFitError, match="use a device like"):
        kv_capacity(load_model("llama-3.1-8b"), load_device("raspberry-pi-5"), step_tokens=512)
    with pytest.raises(DoesNotFitError, match="smaller number format"):
        kv_capacity(load_model("deepseek-v3"), load_device("t4"), step_tokens=512)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.1])
def test_impossible_shares_are_refused(share: float) -> None:
    with pytest.raises(OptionError, match="utilisation"):
        kv_capacity(
            load_model("qwen3-8b"), load_device("h100"), step_tokens=1, memory_utilisation=share
        )


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(OptionError, match="step_tokens"):
        kv_capacity(load_model("qwen3-8b"), load_device("h100"), step_tokens=0)


def test_a_quantised_model_leaves_more_room() -> None:
    device = load_device("4090")
    full = kv_capacity(load_model("llama-3.1-8b"), device, step_tokens=2_048)
    small = kv_capacity(load_model("llama-3.1-8b", "int4"), device, step_tokens=2_048)
    assert small.blocks > 2 * full.blocks
