from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings, strategies as st

from headway.checkpoint.gguf_file import GgufFile
from headway.engine.load import load, load_gguf
from headway.errors import ModelFileError

from .families import one_thread  # noqa: F401 - a fixture for this module
from .gguf_writer import Fill, finish, write_gguf

transformers = pytest.importorskip("transformers")

if TYPE_CHECKING:
    from tests.engine.conftest import Case, Driver


@pytest.fixture(scope="module")
def file(tiny: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(tiny.reference, path)
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
@pytest.mark.parametrize(
    "kind", ["Q8_0", "Q6_K", "Q5_0", "Q5_K", "Q4_0", "Q4_K", "BF16", "F16", "F32"]
)
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
    finish(writer, tmp_path / "q.gguf")
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
    write_gguf(tiny.reference, path, architecture="mamba")
    with pytest.raises(ModelFileError, match=r"'mamba': this engine computes llama, qwen2, qwen3"):
        load_gguf(path)
    write_gguf(tiny.reference, path, skip="blk.3.ffn_up.weight")
    with pytest.raises(ModelFileError, match=r"lacks tensor blk\.3\.ffn_up\.weight"):
        load_gguf(path)


LIES: dict[str, tuple[Fill, str]] = {
    "experts": (lambda writer: writer.add_expert_count(8), "has experts"),
    "yarn": (
        lambda writer: writer.add_rope_scaling_type(gguf.RopeScalingType.YARN),
        "scales positions as 'yarn'",
    ),
    "partly rotated heads": (
        lambda writer: writer.add_rope_dimension_count(8),
        "rope.dimension_count=8",
    ),
    "odd alignment": (
        lambda writer: writer.add_uint32("general.alignment", 48),
        "general.alignment=48",
    ),
    "text for an alignment": (
        lambda writer: writer.add_string("general.alignment", "much"),
        "general.alignment=much",
    ),
    "two axes, not one": (
        lambda writer: writer.add_tensor("rope_freqs.weight", np.ones((2, 8), np.float32)),
        "rope_freqs.weight is",
    ),
    "divisors below 0": (
        lambda writer: writer.add_tensor("rope_freqs.weight", np.full(8, -1, np.float32)),
        "not above 0",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_cannot_be_computed_is_refused(lie: str, small: Any, tmp_path: Path) -> None:
    also, said = LIES[lie]
    path = write_gguf(small, tmp_path / "lie.gguf", also=also)
    with pytest.raises(ModelFileError, match=said) as caught:
        load_gguf(path)
    assert "\n" not in str(caught.value)


def llama(**options: Any) -> Any:
    """One that is small enough to be written a thousand times."""
    torch.manual_seed(3)
    sizes = {
        "vocab_size": 40,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }
    config = transformers.LlamaConfig(**{**sizes, **options})
    return transformers.LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def small() -> Any:
    return llama()


@pytest.fixture(scope="module")
def small_bytes(small: Any, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_gguf(small, tmp_path_factory.mktemp("small") / "small.gguf").read_bytes()


MOST_MEMORY = 32 << 20  # for a file of 200 kB


def memory_of_load(path: Path) -> int:
    """Load, or be refused in one sentence; return the most bytes that were held."""
    tracemalloc.start()
    said = ""
    try:
        load(path)
    except ModelFileError as error:
        said = str(error)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "\n" not in said
    assert len(said) < 600
    return peak


patches = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 4000), st.integers(0, 1 << 20)),  # mostly in the header
        st.one_of(
            st.binary(min_size=1, max_size=2),
            st.sampled_from([b"\xff" * 8, b"\x00" * 8, b"\x00\x00\x00\x40", b"\xff\xff\xff\x7f"]),
        ),
    ),
    max_size=4,
)


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(patches=patches, kept=st.one_of(st.just(1.0), st.floats(0, 1)))
@example(patches=[(8, b"\xff" * 8)], kept=1.0)  # tensors
@example(patches=[(16, b"\xff" * 8)], kept=1.0)  # metadata entries
def test_damaged_files_end_in_one_sentence(
    patches: list[tuple[int, bytes]], kept: float, small_bytes: bytes, tmp_path: Path
) -> None:
    data = bytearray(small_bytes)
    for at, patch in patches:
        data[at % len(data) : at % len(data) + len(patch)] = patch
    path = tmp_path / "damaged.gguf"
    path.write_bytes(data[: int(kept * len(data))])
    assert memory_of_load(path) < MOST_MEMORY


def test_a_size_from_the_header_is_never_believed(small_bytes: bytes, tmp_path: Path) -> None:
    """Wherever eight bytes of the header could be a length: make it enormous."""
    path = tmp_path / "lying.gguf"
    header = small_bytes.index(b"blk.0.ffn_up") + 200
    for at in range(0, header, 7):
        path.write_bytes(small_bytes[:at] + struct.pack("<Q", 1 << 40) + small_bytes[at + 8 :])
        assert memory_of_load(path) < MOST_MEMORY


def test_tensors_may_not_overlap(small: Any, tmp_path: Path) -> None:
    """Or a small file could ask for much more memory than it has bytes."""
    path = write_gguf(small, tmp_path / "overlap.gguf")
    data = path.read_bytes()
    named = data.index(b"blk.0.attn_k.weight")
    offset = named + len(b"blk.0.attn_k.weight") + 4 + 2 * 8 + 4
    path.write_bytes(data[:offset] + struct.pack("<Q", 0) + data[offset + 8 :])
    with pytest.raises(ModelFileError, match="overlap"):
        load(path)
