"""Every family against transformers: the same logits, the same greedy tokens, past the window."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import safetensors.torch
import torch

from headway.engine.architecture_json import config_from_json
from headway.engine.load import load
from headway.errors import ModelFileError, OptionError

from .families import (
    CASES,
    CHUNK,
    OUTPUT,
    greedy,
    greedy_reference,
    logits_of,
    one_thread,  # noqa: F401 - a fixture for this module
    prompt_of,
    reference_logits,
    reference_of,
)
from .gguf_writer import write_gguf


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: Any) -> tuple[Any, Path]:
    reference = reference_of(request.param)
    path = tmp_path_factory.mktemp("family")
    reference.save_pretrained(path)
    return reference, path


def test_same_logits_and_tokens_in_fp32(case: tuple[Any, Path]) -> None:
    reference, path = case
    loaded = load(path)
    prompt = prompt_of(reference.config.vocab_size)
    expected = greedy_reference(reference, prompt, OUTPUT)
    assert len(set(expected)) > 4  # a model that says one thing for ever would hide errors
    assert greedy(loaded.model, prompt, OUTPUT) == expected
    ids = prompt + expected
    theirs = reference_logits(reference, ids)
    for chunk in (CHUNK, len(ids)):
        ours = logits_of(loaded.model, ids, chunk=chunk)
        assert float((ours - theirs).abs().max()) < 2e-4 * float(theirs.abs().max())
    assert loaded.context_tokens == 256


def test_close_logits_in_bf16(case: tuple[Any, Path]) -> None:
    """As close to bf16 transformers as that is to itself in fp32."""
    reference, path = case
    ids = prompt_of(reference.config.vocab_size)
    exact = reference_logits(reference, ids)
    theirs = reference_logits(type(reference).from_pretrained(path, dtype=torch.bfloat16), ids)
    ours = logits_of(load(path, torch.bfloat16).model, ids)
    noise = float((theirs - exact).norm() / exact.norm())
    assert 1e-4 < noise < 0.2
    assert float((ours - exact).norm() / exact.norm()) < 1.5 * noise
    assert float((ours - theirs).norm() / exact.norm()) < 2 * noise


LLAMA3_DIVISORS = "rope_freqs.weight"


def divisors_of(reference: Any) -> np.ndarray[Any, Any]:
    """What the converter works out for Llama 3.1: plain frequency / stretched frequency."""
    rotary, size = reference.model.rotary_emb, reference.config.head_dim
    theta = reference.config.rope_parameters["rope_theta"]
    plain = theta ** -(torch.arange(0, size, 2).float() / size)
    divisors: np.ndarray[Any, Any] = (plain / rotary.inv_freq).numpy()
    return divisors


@pytest.mark.parametrize(
    "name",
    [
        "llama",
        "llama, tied, llama3 rope",
        "llama, linear rope, biases",
        "mistral",
        "qwen2",
        "qwen3",
        "gemma2",
    ],
)
def test_the_same_from_a_gguf_file(name: str, tmp_path: Path) -> None:
    reference = reference_of(name)

    def also(writer: gguf.GGUFWriter) -> None:
        if "llama3" in name:
            writer.add_tensor(LLAMA3_DIVISORS, divisors_of(reference))
        if "linear" in name:
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(2.5)
        if name == "gemma2":  # queries are scaled by the head's size in a file of this many layers
            assert reference.config.query_pre_attn_scalar == reference.config.head_dim

    loaded = load(write_gguf(reference, tmp_path / "model.gguf", also=also))
    ids = prompt_of(reference.config.vocab_size)
    theirs = reference_logits(reference, ids)
    ours = logits_of(loaded.model, ids)
    assert float((ours - theirs).abs().max()) < 2e-4 * float(theirs.abs().max())
    assert loaded.context_tokens == 256


@pytest.mark.parametrize("name", ["llama", "qwen3"])
@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q5_0", "BF16", "F16"])
def test_quantised_files_give_what_their_rounded_weights_give(
    name: str, kind: str, tmp_path: Path
) -> None:
    reference = reference_of(name, hidden_size=96, intermediate_size=128, head_dim=32)
    path = write_gguf(reference, tmp_path / "model.gguf", quantisation=kind)
    quantisation = gguf.GGMLQuantizationType[kind]
    with torch.no_grad():
        for weight in reference.parameters():
            if weight.ndim == 2:
                rounded = gguf.quants.quantize(weight.numpy(), quantisation)
                weight.copy_(torch.from_numpy(gguf.quants.dequantize(rounded, quantisation)))
    ids = prompt_of(reference.config.vocab_size)
    theirs = reference_logits(reference, ids)
    ours = logits_of(load(path).model, ids)
    assert float((ours - theirs).abs().max()) < 2e-4 * float(theirs.abs().max())


@pytest.mark.parametrize("prefix", ["model.language_model.", "language_model.model."])
def test_the_text_of_a_gemma_that_also_sees(prefix: str, tmp_path: Path) -> None:
    """As the Hub has them: a sparse text_config, and names of either transformers."""
    reference = reference_of("gemma3")
    reference.save_pretrained(tmp_path)
    text = json.loads((tmp_path / "config.json").read_text())
    for key in ("rms_norm_eps", "hidden_activation", "layer_types", "tie_word_embeddings"):
        text.pop(key, None)  # absent ones mean transformers' defaults
    text["rms_norm_eps"] = 1e-5
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "text_config": text,
        "vision_config": {"hidden_size": 32},
        "eos_token_id": [1, 106],
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = safetensors.torch.load_file(tmp_path / "model.safetensors")
    renamed = {name.replace("model.", prefix, 1): tensor for name, tensor in weights.items()}
    renamed["vision_tower.patch.weight"] = torch.zeros(3)
    safetensors.torch.save_file(renamed, tmp_path / "model.safetensors")
    loaded = load(tmp_path)
    ids = prompt_of(reference.config.vocab_size)
    theirs = reference_logits(reference, ids)
    assert float((logits_of(loaded.model, ids) - theirs).abs().max()) < 2e-4 * float(
        theirs.abs().max()
    )
    assert loaded.stops == {1, 106}


@pytest.mark.parametrize("name", ["qwen2, windowed", "qwen3, windowed, biases", "gemma2", "gemma3"])
def test_older_configs_slide_the_layers_that_transformers_slides(name: str) -> None:
    """They do not list the layers but say how to work them out."""
    config = reference_of(name, max_window_layers=1).config
    older = {key: value for key, value in config.to_dict().items() if key != "layer_types"}
    sliding = config_from_json(older, name).sliding
    assert sliding == tuple(kind == "sliding_attention" for kind in config.layer_types)
    assert len(set(sliding)) == 2


def test_shards_are_found_through_their_index(tmp_path: Path) -> None:
    reference = reference_of("llama")
    reference.save_pretrained(tmp_path, max_shard_size="100kB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 2
    # not of the index: another copy under other names, as some repositories have
    safetensors.torch.save_file({"tok": torch.zeros(1)}, tmp_path / "consolidated.safetensors")
    heard: list[tuple[int, int]] = []
    loaded = load(tmp_path, on_layer=lambda done, of: heard.append((done, of)))
    assert heard == [(n, 4) for n in (1, 2, 3, 4)]
    ids = prompt_of(reference.config.vocab_size)
    theirs = reference_logits(reference, ids)
    assert float((logits_of(loaded.model, ids) - theirs).abs().max()) < 2e-4 * float(
        theirs.abs().max()
    )
    held = shards[1].read_bytes()
    shards[1].unlink()
    with pytest.raises(ModelFileError, match=f"{shards[1].name} is missing"):
        load(tmp_path)
    shards[1].write_bytes(held[:-5])
    with pytest.raises(ModelFileError, match="truncated"):
        load(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    there = json.loads(index.read_text())
    there["weight_map"]["lm_head.weight"] = "../../secret.safetensors"
    index.write_text(json.dumps(there))
    with pytest.raises(ModelFileError, match="must lie beside it"):
        load(tmp_path)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    reference_of("llama").config.save_pretrained(tmp_path)
    pickled = tmp_path / "pytorch_model.bin"
    pickled.write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    for path in (tmp_path, pickled):
        with pytest.raises(ModelFileError, match=r"pytorch_model\.bin is pickled"):
            load(path)


def test_all_ends_that_the_files_name_are_stops(tmp_path: Path) -> None:
    reference = reference_of("llama")
    reference.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"eos_token_id": 9}))
    generation = {"eos_token_id": [7, 8, 10**6, None]}
    (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    assert load(tmp_path).stops == {7, 8, 9}  # one that is no row of the embedding cannot come


def test_weights_of_other_types_are_refused(tmp_path: Path) -> None:
    reference = reference_of("llama")
    reference.save_pretrained(tmp_path)
    weights = safetensors.torch.load_file(tmp_path / "model.safetensors")
    name = "model.layers.2.mlp.down_proj.weight"
    weights[name] = weights[name].to(torch.float8_e4m3fn)
    safetensors.torch.save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ModelFileError, match=r"down_proj\.weight is F8_E4M3"):
        load(tmp_path)
    with pytest.raises(OptionError, match=r"float64: choose float32, bfloat16, float16"):
        load(tmp_path, torch.float64)
