"""Small random models of every family, and the plainest way to run one."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from headway.engine.decoder import Decoder
from headway.engine.kv_pool import KvPool
from headway.engine.layout import Span, lay_out

transformers = pytest.importorskip("transformers")

BLOCK_TOKENS = 4
PROMPT, OUTPUT, CHUNK = 41, 16, 11  # the window is 12: chunks, prompt and answer reach past it

SIZES: dict[str, Any] = {
    "vocab_size": 331,
    "hidden_size": 48,
    "intermediate_size": 88,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 20,  # not hidden / heads
    "max_position_embeddings": 256,
    "bos_token_id": 2,
    "eos_token_id": None,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-5,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.5}
WINDOWED = {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 2}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"head_dim": 8}),
    "llama, tied, llama3 rope": (
        "Llama",
        {"tie_word_embeddings": True, "rope_parameters": LLAMA3},
    ),
    "llama, linear rope, biases": ("Llama", {"attention_bias": True, "rope_parameters": LINEAR}),
    "mistral": ("Mistral", {"sliding_window": 12}),
    "mistral without window": ("Mistral", {"sliding_window": None}),
    "qwen2": ("Qwen2", {"head_dim": 8}),
    "qwen2, windowed": ("Qwen2", {"head_dim": 8, **WINDOWED}),
    "qwen3": ("Qwen3", {"tie_word_embeddings": True}),
    "qwen3, windowed, biases": ("Qwen3", {"attention_bias": True, **WINDOWED}),
    "gemma2": (
        "Gemma2",
        {
            "sliding_window": 12,
            "query_pre_attn_scalar": 20,
            "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": 2.0,
        },
    ),
    "gemma3": (
        "Gemma3",
        {
            "sliding_window": 12,
            "query_pre_attn_scalar": 24,
            "num_hidden_layers": 7,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Models this small only lose by a second one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def reference_of(case: str, **sizes: Any) -> Any:
    """A random model under whose weights the most likely token keeps changing."""
    family, options = CASES[case]
    kind = "Gemma3TextConfig" if family == "Gemma3" else f"{family}Config"
    config = getattr(transformers, kind)(**{**SIZES, **options, **sizes})
    torch.manual_seed(7)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.normal_(0.0 if "Gemma" in family else 1.0, 0.3)
            elif name.endswith("bias"):
                weight.normal_(0.0, 0.5)
            elif "proj" in name:
                weight.normal_(0.0, 2 * weight.shape[1] ** -0.5)
            else:
                weight.normal_(0.0, 0.05 if "embed" in name else 0.2)
    return model


def prompt_of(vocabulary: int) -> list[int]:
    draw = random.Random(5)
    return [2, *(draw.randrange(3, vocabulary) for _ in range(PROMPT - 1))]


class Alone:
    """One sequence through the model, step by step."""

    def __init__(self, model: Decoder, tokens: int) -> None:
        self.model, self.reached = model, 0
        self.blocks = list(range(-(-tokens // BLOCK_TOKENS)))
        random.Random(3).shuffle(self.blocks)
        self.pool = KvPool(model.config, len(self.blocks), BLOCK_TOKENS, model.dtype)

    @torch.inference_mode()
    def step(self, ids: Sequence[int]) -> torch.Tensor:
        """Return logits (tokens, V)."""
        model, span = self.model, Span(self.reached, len(ids), self.blocks)
        layout = lay_out([span], BLOCK_TOKENS, model.config.window)
        hidden = model.embed(torch.tensor(ids))
        rotations = model.rotations(layout.positions)
        for index in range(model.config.layers):
            hidden = model.layer(index, hidden, layout, rotations, self.pool)
        self.reached += len(ids)
        return model.head(hidden)


def logits_of(model: Decoder, ids: Sequence[int], *, chunk: int = CHUNK) -> torch.Tensor:
    alone = Alone(model, len(ids))
    return torch.cat([alone.step(ids[at : at + chunk]) for at in range(0, len(ids), chunk)])


def greedy(model: Decoder, prompt: Sequence[int], output: int) -> list[int]:
    alone = Alone(model, len(prompt) + output)
    steps = [prompt[at : at + CHUNK] for at in range(0, len(prompt), CHUNK)]
    answer: list[int] = []
    while len(answer) < output:
        logits = alone.step(steps.pop(0) if steps else answer[-1:])
        if not steps:
            answer.append(int(logits[-1].argmax()))
    return answer


def greedy_reference(reference: Any, prompt: Sequence[int], output: int) -> list[int]:
    ids = torch.tensor([list(prompt)])
    out = reference.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=output
    )
    tokens: list[int] = out[0, len(prompt) :].tolist()
    return tokens


def reference_logits(reference: Any, ids: Sequence[int]) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = reference(torch.tensor([list(ids)])).logits[0].float()
    return logits
