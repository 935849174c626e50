from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest

from headway.checkpoint.gguf_file import GgufFile
from headway.engine.load import load, load_gguf
from headway.errors import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.engine.conftest import Case, Driver

NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(case: Case, path: Path, *, architecture: str = "gemma3", skip: str = "") -> None:
    """Write a model the way llama.cpp's converter does: norms with the 1 added, two axes reversed."""
    config = case.model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_block_count(config.layers)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.hidden)
    writer.add_feed_forward_length(config.ffn)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_size)
    writer.add_layer_norm_rms_eps(config.epsilon)
    writer.add_rope_freq_base(config.global_theta)
    writer.add_sliding_window(config.window)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"t{n}" for n in range(config.vocabulary)])
    writer.add_token_scores([0.0] * config.vocabulary)
    writer.add_token_types([gguf.TokenType.NORMAL] * config.vocabulary)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    for name, tensor in tensors(case.reference).items():
        if name != skip:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors(reference: Any) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    found = {}
    for name, weight in reference.model.named_parameters():
        array = weight.detach().numpy() + (1 if "norm" in name else 0)
        if name.startswith("layers."):
            _, layer, part = name.removesuffix(".weight").split(".", 2)
            found[f"blk.{layer}.{NAMES[part]}.weight"] = array
        else:
            found["token_embd.weight" if "embed" in name else "output_norm.weight"] = array
    return found


@pytest.fixture(scope="module")
def file(tiny: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(tiny, path)
    return path


@pytest.mark.slow
def test_a_gguf_file_gives_the_same_tokens(
    tiny: Case, file: Path, drive: Callable[..., Driver]
) -> None:
    loaded = load(file)
    assert loaded.name == "tiny"
    assert loaded.stops == {1}
    assert loaded.vocabulary is not None
    assert loaded.vocabulary.pieces[17] == "t17"
    assert loaded.model.config == tiny.model.config
    driver = drive(loaded.model)
    sequence = driver.add(tiny.prompts[3])
    driver.prefill(sequence)
    driver.finish(sequence)
    assert sequence.output_ids == tiny.answers[3]


@pytest.mark.slow
def test_a_file_in_parts_reads_like_the_whole(file: Path, tmp_path: Path) -> None:
    data, whole = file.read_bytes(), GgufFile(file)
    cuts = [0, len(data) // 3, len(data) // 2, len(data)]
    parts = [tmp_path / f"part{n}" for n in range(3)]
    for part, start, end in zip(parts, cuts, cuts[1:], strict=False):
        part.write_bytes(data[start:end])
    split = GgufFile(parts)
    for name, info in whole.tensors.items():
        np.testing.assert_array_equal(
            split.dequantise(name, info.shape), whole.dequantise(name, info.shape)
        )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Q8_0", "Q5_0", "Q4_K", "Q6_K", "BF16", "F16", "F32"])
def test_dequantised_as_the_gguf_package_does(kind: str, tmp_path: Path) -> None:
    quantisation = gguf.GGMLQuantizationType[kind]
    block, size = gguf.GGML_QUANT_SIZES[quantisation]
    rows, columns = 300, 2560  # more than one stride
    raw = np.frombuffer(random.Random(1).randbytes(rows * columns // block * size), np.uint8)
    if kind in ("F16", "BF16", "F32"):
        plain = np.random.default_rng(1).standard_normal((rows, columns)).astype(np.float32)
        raw = gguf.quants.quantize(plain, quantisation).view(np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "q.gguf", "gemma3")
    shaped = raw.reshape(rows, -1)
    writer.add_tensor("w", shaped, raw_dtype=quantisation)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with np.errstate(all="ignore"):  # random bytes make odd scales
        ours = GgufFile(tmp_path / "q.gguf").dequantise("w", (rows, columns))
        typed = shaped.view({"F32": np.float32, "F16": np.float16}.get(kind, np.uint8))
        theirs = gguf.quants.dequantize(typed, quantisation)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_truncated_anywhere_is_one_sentence(file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    short = tmp_path / "short.gguf"
    draw = random.Random(2)
    for size in [
        0,
        3,
        4,
        23,
        24,
        100,
        len(data) - 1,
        *(draw.randrange(len(data)) for _ in range(60)),
    ]:
        short.write_bytes(data[:size])
        with pytest.raises(ModelFileError) as caught:
            load_gguf(short)
        assert "download it again" in str(caught.value) or "download the model again" in str(
            caught.value
        )
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_wrong_files_say_what_is_wrong(tiny: Case, tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"PK\x03\x04" + b"\x00" * 100)
    with pytest.raises(ModelFileError, match="not a GGUF file"):
        load_gguf(path)
    write_gguf(tiny, path, architecture="llama")
    with pytest.raises(ModelFileError, match="llama model: only gemma3"):
        load_gguf(path)
    write_gguf(tiny, path, skip="blk.3.ffn_up.weight")
    with pytest.raises(ModelFileError, match=r"lacks tensor blk\.3\.ffn_up\.weight"):
        load_gguf(path)
