"""What half the precision may change, and what it may not."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest
import torch

from headway.engine.decoder import Decoder
from headway.engine.kv_pool import KvPool
from headway.engine.layout import Span, lay_out
from headway.engine.safetensors_weights import weights_from_safetensors

if TYPE_CHECKING:
    from .conftest import Case

BLOCK = 4


@pytest.fixture(scope="module")
def narrow(tiny: Case) -> Decoder:
    return Decoder(*weights_from_safetensors(tiny.path, torch.bfloat16))


@torch.inference_mode()
def together(model: Decoder, texts: Sequence[Sequence[int]], chunk: int) -> list[torch.Tensor]:
    """Return logits (tokens, V) of texts computed side by side, `chunk` tokens a step."""
    pool = KvPool(model.config, 256, BLOCK, model.dtype)
    longest = max(map(len, texts))
    each = -(-longest // BLOCK)
    found: list[list[torch.Tensor]] = [[] for _ in texts]
    for at in range(0, longest, chunk):
        live = [index for index, text in enumerate(texts) if at < len(text)]
        spans = [
            Span(at, len(texts[i][at : at + chunk]), range(i * each, (i + 1) * each)) for i in live
        ]
        layout = lay_out(spans, BLOCK, model.config.window)
        ids = torch.zeros(len(layout.positions), dtype=torch.long)
        for index, row, span in zip(live, layout.rows, spans, strict=True):
            ids[row : row + span.tokens] = torch.tensor(texts[index][at : at + chunk])
        hidden, rotations = model.embed(ids), model.rotations(layout.positions)
        for layer in range(model.config.layers):
            hidden = model.layer(layer, hidden, layout, rotations, pool)
        logits = model.head(hidden)
        for index, row, span in zip(live, layout.rows, spans, strict=True):
            found[index].append(logits[row : row + span.tokens].float())
    return [torch.cat(parts) for parts in found]


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the typical difference of logits as a share of their spread."""
    return float((one - other).square().mean().sqrt() / other.std())


@torch.inference_mode()
def test_bf16_is_no_further_from_fp32_than_in_transformers(tiny: Case, narrow: Decoder) -> None:
    texts = [[*prompt, *said] for prompt, said in zip(tiny.prompts, tiny.answers, strict=True)]
    wide, half = together(tiny.model, texts, 16), together(narrow, texts, 16)
    reference = copy.deepcopy(tiny.reference).to(torch.bfloat16)
    theirs = [reference(torch.tensor([text])).logits[0].float() for text in texts]
    agree = [
        torch.cat([a.argmax(-1) == b.argmax(-1) for a, b in zip(some, wide, strict=True)]).float()
        for some in (half, theirs)
    ]
    assert apart(torch.cat(half), torch.cat(wide)) < 1.2 * apart(torch.cat(theirs), torch.cat(wide))
    assert agree[0].mean() > agree[1].mean() - 0.05


@pytest.mark.parametrize("chunk", [1, 5, 16])
def test_neighbours_and_chunks_change_logits_by_rounding_only(
    tiny: Case, narrow: Decoder, chunk: int
) -> None:
    texts = [[*prompt, *said][:48] for prompt, said in zip(tiny.prompts, tiny.answers, strict=True)]
    for model, limit in ((narrow, 0.2), (tiny.model, 1e-4)):
        beside = together(model, texts, chunk)
        for text, found in zip(texts, beside, strict=True):
            (alone,) = together(model, [text], len(text))
            assert apart(found, alone) < limit


def test_its_kv_takes_half(narrow: Decoder, tiny: Case) -> None:
    half, whole = (
        KvPool(model.config, 4, BLOCK, model.dtype).copy_out([1, 2], []).bytes
        for model in (narrow, tiny.model)
    )
    assert 2 * half == whole
