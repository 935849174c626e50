"""Number formats: what a weight costs in memory, and which units compute with it."""

from __future__ import annotations

from dataclasses import dataclass

from headway.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class Precision:
    """A way to store weights. Bytes include the scales that quantised formats carry beside them."""

    name: str
    weight_bytes: float
    compute: str  # dtype whose peak the matrix products run at, where the device has it
    head_bytes: float = 2.0  # embedding and output head, which most checkpoints leave in 16 bits


_ALL = (
    Precision("fp32", 4.0, "fp32", head_bytes=4.0),
    Precision("bf16", 2.0, "bf16"),
    Precision("fp16", 2.0, "fp16"),
    Precision("fp8", 1.0, "fp8"),
    Precision("int8", 1.0, "int8"),
    Precision("int4", 0.5 + 2 / 128, "bf16"),  # AWQ, GPTQ: one 16-bit scale per 128; weights only
    Precision("fp4", 0.5 + 1 / 16, "fp4"),  # NVFP4: one 8-bit scale per 16
    Precision("mxfp4", 0.5 + 1 / 32, "bf16"),  # one 8-bit exponent per 32; weights only
    Precision(
        "q8_0", 34 / 32, "int8", head_bytes=34 / 32
    ),  # GGUF block of 32: values, 16-bit scale
    Precision("q4_0", 18 / 32, "int8", head_bytes=34 / 32),
    Precision("q4_k_m", 4.85 / 8, "int8", head_bytes=6.5625 / 8),  # a mix; mean over common files
)
PRECISIONS = {precision.name: precision for precision in _ALL}


def precision(name: str) -> Precision:
    """Look a format up by name, e.g. bf16, fp8, int4, q4_k_m."""
    found = PRECISIONS.get(name)
    if found is None:
        raise UnknownNameError.among("precision", name, PRECISIONS)
    return found
