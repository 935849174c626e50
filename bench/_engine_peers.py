"""What the engine is measured beside: the machine itself, transformers in this process, vLLM over HTTP."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Sequence as Seq
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812 - everybody calls it so

from headway.checkpoint.gguf_file import GgufFile

PATIENCE_S = 300
PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


class Machine:
    """What memory and multiplier give, with the number of threads torch has."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._numbers = torch.ones(1 << 27)  # 512 MiB: far more than any cache
        self._rows = torch.randn(1024, 640).to(dtype)
        self._weight = torch.randn(4096, 640).to(dtype)

    def read_gb_s(self) -> float:
        """Both operands of the product are the same memory: counted once."""
        began = time.perf_counter()
        torch.dot(self._numbers, self._numbers)
        return self._numbers.nbytes / (time.perf_counter() - began) / 1e9

    def multiply_gflop_s(self) -> float:
        """A product of the shape of a feed-forward layer over 1,024 tokens."""
        began = time.perf_counter()
        for _ in range(4):
            F.linear(self._rows, self._weight)
        return 4 * 2 * 1024 * 640 * 4096 / (time.perf_counter() - began) / 1e9


class Transformers:
    """Gemma-3-270M of transformers with the same weights: `generate`, one static batch."""

    def __init__(self, file: GgufFile, dtype: torch.dtype) -> None:
        import transformers
        from transformers.initialization import no_init_weights

        transformers.logging.set_verbosity_error()
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
        with no_init_weights():
            self._model: Any = transformers.Gemma3ForCausalLM(config).eval().to(dtype)
        self._model.tie_weights()
        for name, weight in self._model.named_parameters():
            found = torch.from_numpy(file.dequantise(_there(name), tuple(weight.shape)))
            weight.data = (found - 1 if "norm" in name else found).to(dtype)

    def generate(self, prompts: Seq[Seq[int]], tokens: int) -> float:
        """Return the seconds a batch of prompts of one length takes."""
        ids = torch.tensor(prompts)
        began = time.perf_counter()
        self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
        )
        return time.perf_counter() - began


class OverHttp:
    """A server that speaks OpenAI's completions and takes token ids as a prompt, as vLLM does."""

    def __init__(self, url: str) -> None:
        self._url, self._calls = url.rstrip("/"), 0
        with urllib.request.urlopen(f"{self._url}/v1/models", timeout=PATIENCE_S) as reply:  # noqa: S310 - the caller's own
            self._model = json.load(reply)["data"][0]["id"]

    def generate(self, prompts: Seq[Seq[int]], tokens: int) -> float:
        """Return the seconds until all prompts, sent at once, are answered; each call's begin with other tokens.

        Otherwise a server that keeps prefixes would compute them in the first round only.
        """
        self._calls += 1
        prompts = [[ids[0], 1000 + self._calls, *ids[2:]] for ids in prompts]
        began = time.perf_counter()
        with ThreadPoolExecutor(len(prompts)) as pool:
            answered = list(pool.map(lambda ids: self._complete(ids, tokens), prompts))
        assert answered == [tokens] * len(prompts), f"asked for {tokens} tokens, got {answered}"
        return time.perf_counter() - began

    def _complete(self, ids: Seq[int], tokens: int) -> int:
        body = {
            "model": self._model,
            "prompt": list(ids),
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
        }
        request = urllib.request.Request(  # noqa: S310 - the caller's own
            f"{self._url}/v1/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:  # noqa: S310
            return int(json.load(reply)["usage"]["completion_tokens"])


def _there(name: str) -> str:
    """Return what the GGUF file calls a parameter of transformers."""
    if name.startswith("model.layers."):
        _, _, layer, part = name.removesuffix(".weight").split(".", 3)
        return f"blk.{layer}.{PARTS[part]}.weight"
    return "token_embd.weight" if "embed" in name else "output_norm.weight"
