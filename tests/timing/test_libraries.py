"""Names, aliases, paths and published configs that lead to sheets; and what is said when they do not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway.errors import ModelFileError, OptionError, UnknownNameError
from headway.timing import devices, from_hf_config, load_device, load_link, load_model

CONFIGS = Path(__file__).resolve().parents[3] / "shared" / "models"


def write_config(folder: Path, **changes: Any) -> Path:
    config = {
        "model_type": "llama",
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": False,
    }
    folder.mkdir(exist_ok=True)
    kept = {key: value for key, value in (config | changes).items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(kept))
    return folder


def test_a_model_folder_and_its_config_give_the_bundled_sheet(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "mine")
    bundled = load_model("llama-3.1-8b")
    for path in (folder, folder / "config.json"):
        read = load_model(path)
        assert read.name == "mine"
        assert read.parameters == bundled.parameters
        assert read.kv_bytes_per_token() == bundled.kv_bytes_per_token()


def test_windows_of_published_configs(tmp_path: Path) -> None:
    def windowed(**changes: Any) -> int:
        return from_hf_config(write_config(tmp_path / "w", **changes)).windowed_layers

    assert windowed(sliding_window=4096) == 32
    assert windowed(sliding_window=4096, use_sliding_window=False) == 0
    assert windowed(sliding_window=None) == 0
    assert windowed(sliding_window=512, sliding_window_pattern=6) == 27
    assert windowed(sliding_window=512, model_type="gemma2") == 16
    kinds = ["sliding_attention"] * 24 + ["full_attention"] * 8
    assert windowed(sliding_window=512, layer_types=kinds) == 24


def test_quantised_configs_name_their_precision(tmp_path: Path) -> None:
    def stored(**changes: Any) -> str:
        return from_hf_config(write_config(tmp_path / "q", **changes)).precision

    assert stored(torch_dtype="float32") == "fp32"
    assert stored(quantization_config={"quant_method": "fp8"}) == "fp8"
    assert stored(quantization_config={"quant_method": "awq", "bits": 4}) == "int4"

    def compressed(weights: dict[str, Any]) -> str:
        groups = {"group_0": {"weights": weights}}
        quantised = {"quant_method": "compressed-tensors", "config_groups": groups}
        return stored(quantization_config=quantised)

    assert compressed({"num_bits": 4, "type": "int"}) == "int4"
    assert compressed({"num_bits": 4, "type": "float"}) == "fp4"
    assert compressed({"num_bits": 8, "type": "float"}) == "fp8"
    assert compressed({"num_bits": 8, "type": "int"}) == "int8"


def test_experts_latent_attention_and_states_of_published_configs(tmp_path: Path) -> None:
    routed = {"num_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 512}
    plain = from_hf_config(write_config(tmp_path / "e", **routed))
    assert plain.experts is not None
    assert plain.experts.shared_ffn == 0
    beside = from_hf_config(write_config(tmp_path / "e", **routed, enable_moe_block=True))
    assert beside.experts is not None
    assert beside.experts.shared_ffn == 14336
    latent = {
        "kv_lora_rank": 512,
        "q_lora_rank": None,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 128,
        "v_head_dim": 128,
    }
    direct = from_hf_config(write_config(tmp_path / "e", **latent))
    ranked = from_hf_config(write_config(tmp_path / "e", **latent | {"q_lora_rank": 1536}))
    assert direct.kv_bytes_per_token() == 32 * 576 * 2
    assert direct.attention_parameters - ranked.attention_parameters == (
        4096 * 32 * 192 - 4096 * 1536 - 1536 * 32 * 192
    )
    kinds = ["linear_attention", "full_attention"] * 16
    mixed = from_hf_config(write_config(tmp_path / "e", layer_types=kinds, index_topk=9))
    assert mixed.kv_bytes_per_token() == 65_536
    assert "linear-attention" in mixed.approximate
    assert "sparse" in mixed.approximate
    one = from_hf_config(write_config(tmp_path / "e", model_type="falcon", multi_query=True))
    assert one.kv_heads == 1
    late = from_hf_config(write_config(tmp_path / "e", sliding_window=64, max_window_layers=28))
    assert late.windowed_layers == 4


def test_older_config_keys_and_ungated_models(tmp_path: Path) -> None:
    folder = write_config(
        tmp_path / "opt",
        model_type="opt",
        intermediate_size=...,
        ffn_dim=16384,
        num_key_value_heads=...,
    )
    model = from_hf_config(folder)
    assert (model.gated, model.kv_heads, model.ffn) == (False, 32, 16384)


def test_the_language_model_of_a_vision_model_is_found_and_labelled(tmp_path: Path) -> None:
    inner = json.loads((write_config(tmp_path / "a") / "config.json").read_text())
    folder = tmp_path / "vision"
    folder.mkdir()
    outer = {"model_type": "both", "text_config": inner, "vision_config": {"hidden_size": 8}}
    (folder / "config.json").write_text(json.dumps(outer))
    model = load_model(folder)
    assert model.hidden == 4096
    assert "vision" in model.approximate


def test_configs_that_are_none_are_refused_by_what_they_lack(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="vocab_size"):
        load_model(write_config(tmp_path / "x", vocab_size=...))
    (tmp_path / "x" / "config.json").write_text("{")
    with pytest.raises(ModelFileError, match="cannot read"):
        load_model(tmp_path / "x")
    with pytest.raises(ModelFileError, match="cannot read"):
        load_model(tmp_path)
    (tmp_path / "x" / "config.json").write_text("[]")
    with pytest.raises(ModelFileError, match="no JSON object"):
        load_model(tmp_path / "x")
    with pytest.raises(ModelFileError, match="TOML sheet"):
        load_model(write_config(tmp_path / "y", hybrid_override_pattern="M-M*"))


def test_unknown_names_list_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"llama-3\.1-8b"):
        load_model("lama-3.1-8b")
    with pytest.raises(UnknownNameError, match="h100"):
        load_device("h101")
    with pytest.raises(UnknownNameError, match="nvlink4"):
        load_link("nvlink-4")


def test_repository_names_lead_to_bundled_sheets() -> None:
    bundled = load_model("llama-3.1-8b")
    assert load_model("meta-llama/Llama-3.1-8B-Instruct") is bundled
    assert load_model("Meta-Llama-3.1-8B") is bundled
    assert load_model("mistralai/Mixtral-8x7B-Instruct-v0.1") is load_model("mixtral-8x7b")
    assert load_model("Qwen/Qwen3-235B-A22B-FP8").precision == "fp8"
    assert load_model("Qwen/Qwen3-235B-A22B-FP8", "bf16").precision == "bf16"


def test_a_folder_is_read_even_when_its_name_is_bundled(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "llama-3.1-8b", num_hidden_layers=3)
    assert load_model(folder).layers == 3


@pytest.mark.parametrize(
    "alias, name",
    [
        ("h100", "h100-sxm"),
        ("A100", "a100-sxm-80gb"),
        ("4090", "rtx-4090"),
        ("H200_SXM", "h200-sxm"),
    ],
)
def test_device_aliases(alias: str, name: str) -> None:
    assert load_device(alias).name == name


def test_a_toml_model_sheet_and_its_mistakes(tmp_path: Path) -> None:
    sheet = tmp_path / "tiny.toml"
    text = "layers=2\nhidden=64\nheads=4\nkv_heads=2\nhead_size=16\nffn=128\nvocab=100\nmax_context=64\n"
    sheet.write_text(text)
    assert load_model(sheet).name == "tiny"
    sheet.write_text(text + "flavour='sweet'\n")
    with pytest.raises(OptionError, match="flavour"):
        load_model(sheet)
    sheet.write_text(text.replace("hidden=64", "hidden='wide'"))
    with pytest.raises(OptionError, match="hidden"):
        load_model(sheet)


def test_a_malformed_sheet_is_named(tmp_path: Path) -> None:
    sheet = tmp_path / "broken.toml"
    sheet.write_text("layers = = 2")
    with pytest.raises(OptionError, match="broken"):
        load_model(sheet)


@pytest.mark.parametrize(
    "change",
    [
        {"peak_flops": {}},
        {"memory_bytes": 0},
        {"usable_share": 0.0},
        {"compute_efficiency": 1.5},
        {"idle_watts": 900.0},
    ],
)
def test_impossible_devices_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="h100"):
        replace(load_device("h100"), **change)


def test_a_device_without_any_suitable_units_says_what_it_has() -> None:
    with pytest.raises(OptionError, match="bf16"):
        replace(load_device("h100"), peak_flops={"bf16": 1e12}).peak("fp32")


def test_a_toml_device_may_bring_its_own_link(tmp_path: Path) -> None:
    sheet = tmp_path / "mine.toml"
    sheet.write_text(
        "title='mine'\nmemory_bytes_per_s=1e12\nmemory_bytes=8000000000\nscale_up='pcie4'\nhost='pcie4'\n"
        "tdp_watts=100.0\n[network]\nbytes_per_s=1e9\nlatency_ns=5\n[peak_flops]\nfp16=1e13\n"
    )
    device = load_device(sheet)
    assert device.network.latency_ns == 5
    assert device.idle_watts == pytest.approx(15)
    assert device.peak("bf16") == 1e13


def test_no_bundled_peak_is_a_sparse_figure() -> None:
    sparse = {
        "h100-sxm": 1979e12,
        "b200-sxm": 4500e12,
        "mi300x": 2615e12,
        "l40s": 733e12,
        "a10": 250e12,
    }
    for name, peak in sparse.items():
        assert load_device(name).peak("bf16") <= peak / 2 * 1.01
    for device in devices().values():
        assert device.peak("fp32") <= device.peak("bf16") <= device.peak("fp8") * 1.01


def test_a_missing_dtype_computes_in_the_next() -> None:
    assert load_device("a100").peak("fp8") == 312e12
    assert load_device("t4").peak("bf16") == 65e12


@pytest.mark.skipif(not CONFIGS.exists(), reason="no published configs beside the checkout")
@pytest.mark.parametrize(
    "file, name",
    [
        ("Qwen--Qwen3-0.6B", "qwen3-0.6b"),
        ("Qwen--Qwen3-235B-A22B", "qwen3-235b-a22b"),
        ("deepseek-ai--DeepSeek-V3", "deepseek-v3"),
        ("meta-llama--Meta-Llama-3.1-405B", "llama-3.1-405b"),
        ("mistralai--Mixtral-8x7B-v0.1", "mixtral-8x7b"),
        ("openai--gpt-oss-20b", "gpt-oss-20b"),
    ],
)
def test_bundled_sheets_agree_with_published_configs(file: str, name: str) -> None:
    read, bundled = load_model(CONFIGS / f"{file}.json"), load_model(name)
    assert read.parameters == bundled.parameters
    assert read.active_parameters == bundled.active_parameters
    assert read.kv_bytes(5_000) == bundled.kv_bytes(5_000)
    assert read.kv_bytes_per_token() == bundled.kv_bytes_per_token()
    assert read.max_context == bundled.max_context


@pytest.mark.parametrize(
    ("family", "member"), [("phi", "phi-2"), ("mistral", "mistral-7b"), ("Mixtral", "mixtral-8x7b")]
)
def test_a_family_alone_means_its_usual_member(family: str, member: str) -> None:
    assert load_model(family) == load_model(member)
