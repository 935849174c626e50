"""How many prompt tokens fit into a step that must end by an ITL target, as far as the world predicts.

Source: Agrawal et al., "Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve", OSDI 2024,
which profiles one budget for a deployment. Differs: asked anew for every step, so that the budget follows the load.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

from headway.core import NS_PER_MS, InstanceView, Work

TILE = 32  # tokens: budgets are multiples of it
MARGIN = 0.8  # of the target that is planned for: a p99 of exactly the target would miss it


def chunk_within(view: InstanceView, decodes: Seq[Work], target_ms: float, most: int) -> int:
    """Return the largest multiple of `TILE` up to `most` that ends well before `target_ms`; at least one tile.

    A mixed step is taken to last as long as its decodes, and the chunk beyond one token alone: both read the
    weights, once.

    Raises:
        MissingCapabilityError: this world predicts no step times.
    """
    context = view.prefilling[0].computed_tokens if view.prefilling else 0
    taken_ns = view.step_time_ns(decodes) - view.chunk_time_ns(1) if decodes else 0
    left_ns = int(MARGIN * target_ms * NS_PER_MS) - max(0, taken_ns)
    if view.chunk_time_ns(most, context) <= left_ns:
        return most
    low, high = 1, max(1, most // TILE)
    while low < high:
        middle = (low + high + 1) // 2
        if view.chunk_time_ns(middle * TILE, context) <= left_ns:
            low = middle
        else:
            high = middle - 1
    return min(low * TILE, most)
