"""A tiny model on disk, and what transformers says to some prompts."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from headway.core import Request

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tiny_files = pytest.importorskip("headway.testing.tiny_files")

OUTPUT = 24


@dataclass(frozen=True)
class Tiny:
    """The model's folder, requests for it, and the tokens that greedy decoding must give."""

    path: Path
    requests: list[Request]
    answers: dict[int, list[int]]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    path = tiny_files.save_tiny_gemma(tmp_path_factory.mktemp("tiny"))
    reference = transformers.Gemma3ForCausalLM.from_pretrained(path).eval()
    draw = random.Random(3)
    requests, answers = [], {}
    for n, length in enumerate((3, 40, 9, 24, 60, 17)):
        ids = (2, *(draw.randrange(3, 512) for _ in range(length - 1)))
        requests.append(Request(n, n * 20_000_000, length, OUTPUT, prompt_ids=ids))
        given = torch.tensor([ids])
        out = reference.generate(
            given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=OUTPUT
        )
        answers[n] = out[0, length:].tolist()
    return Tiny(path, requests, answers)
