"""Which tensor-parallel sizes a model allows."""

from __future__ import annotations

from headway.errors import OptionError
from headway.timing.model_sheet import ModelSheet

MAX_TENSOR_PARALLEL = 64


def tensor_parallel_sizes(model: ModelSheet) -> tuple[int, ...]:
    """Sizes that split the heads evenly and either split the KV heads or replicate them evenly."""
    return tuple(
        size
        for size in range(1, min(model.heads, MAX_TENSOR_PARALLEL) + 1)
        if model.heads % size == 0 and _splits_kv(model, size)
    )


def check_tensor_parallel(model: ModelSheet, tp: int) -> None:
    """Raise OptionError, naming the nearest sizes that work, unless `tp` is one of them."""
    sizes = tensor_parallel_sizes(model)
    if tp in sizes:
        return
    below = [size for size in sizes if size < tp][-1:]
    above = [size for size in sizes if size > tp][:1]
    nearest = " or ".join(str(size) for size in below + above)
    raise OptionError(
        f"tensor parallel {tp} cannot split {model.name}, which has {model.heads} heads and "
        f"{model.kv_heads} KV heads (at most {MAX_TENSOR_PARALLEL} devices): use {nearest}"
    )


def _splits_kv(model: ModelSheet, size: int) -> bool:
    if model.latent is not None:
        return True
    return model.kv_heads % size == 0 or size % model.kv_heads == 0
