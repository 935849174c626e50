"""FLOPs and bytes of steps and of whole requests, in closed form and exact.

Totals are those of all devices of an instance together: they feed energy, not time. Weights are read once a
step whatever is in it, so they are counted per step (`step_weight_bytes`), and KV per request.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from headway.errors import OptionError
from headway.timing.attention_pairs import chunk_pairs, chunk_reads
from headway.timing.coefficients import pair_flops
from headway.timing.model_sheet import ModelSheet


class Totals(NamedTuple):
    """Arithmetic, and KV bytes read and written."""

    flops: int
    kv_bytes: int

    def plus(self, other: Totals) -> Totals:
        """Both together."""
        return Totals(self.flops + other.flops, self.kv_bytes + other.kv_bytes)


def chunk_totals(
    model: ModelSheet, tokens: int, context: int, rows: int = 0, *, tp: int = 1
) -> Totals:
    """One prefill chunk of `tokens` after `context` cached tokens, with `rows` rows of logits.

    Reads its own KV too, as flash attention does.
    """
    pairs = _over_layers(
        model, chunk_pairs(tokens, context), _windowed_pairs(model, tokens, context)
    )
    reads = _over_layers(
        model, chunk_reads(tokens, context), chunk_reads(tokens, context, model.window)
    )
    flops = _linear_flops(model, tokens, rows) + pair_flops(model)[1] * pairs
    return Totals(flops, _kv_bytes(model, reads, tokens, tp))


def decode_totals(model: ModelSheet, steps: int, context: int, *, tp: int = 1) -> Totals:
    """`steps` one-token steps of one sequence, the first after `context` cached tokens."""
    pairs = _over_layers(model, chunk_pairs(steps, context), _windowed_pairs(model, steps, context))
    flops = _linear_flops(model, steps, steps) + pair_flops(model)[0] * pairs
    return Totals(flops, _kv_bytes(model, pairs, steps, tp))


def request_totals(
    model: ModelSheet, prompt_tokens: int, cached_tokens: int, output_tokens: int, *, tp: int = 1
) -> Totals:
    """A finished request, its prompt computed in one chunk and never preempted.

    Its first output token comes from the prompt. A fully cached prompt computes its last token again.
    """
    if prompt_tokens < 1 or cached_tokens < 0 or output_tokens < 0:
        raise OptionError(
            f"a request of {prompt_tokens} prompt, {cached_tokens} cached and {output_tokens} output "
            "tokens is none: give at least 1 prompt token and no negative counts"
        )
    cached = min(cached_tokens, prompt_tokens - 1)
    rows = min(output_tokens, 1)
    prefill = chunk_totals(model, prompt_tokens - cached, cached, rows, tp=tp)
    return prefill.plus(decode_totals(model, max(0, output_tokens - 1), prompt_tokens, tp=tp))


def step_weight_bytes(model: ModelSheet, tokens: int, *, head: bool = True) -> int:
    """Weights that one step of `tokens` tokens reads; `head`: it samples at least one token."""
    read = model.common_block_bytes + (model.head_bytes if head else 0.0)
    return math.ceil(read + model.expert_layers * model.hit_experts(tokens) * model.expert_bytes)


def _linear_flops(model: ModelSheet, tokens: int, rows: int) -> int:
    return 2 * model.active_block_parameters * tokens + 2 * model.head_parameters * rows


def _windowed_pairs(model: ModelSheet, tokens: int, context: int) -> int:
    return chunk_pairs(tokens, context, model.window)


def _over_layers(model: ModelSheet, full: int, windowed: int) -> int:
    return (
        full * (model.attention_layers - model.windowed_layers) + windowed * model.windowed_layers
    )


def _kv_bytes(model: ModelSheet, reads: int, tokens: int, tp: int) -> int:
    written = model.attention_layers * tokens
    elements = model.kv_elements_per_token(tp) * tp
    return math.ceil((reads + written) * elements * model.kv_element_bytes)
