"""Matrix products with fixed weights, in the layout oneDNN likes best.

PyTorch's own product reads plain weights at a third of the memory's speed when there are few rows; with the weights
reordered once, products are 2 to 4 times as fast at 1 to 16 rows. A product of fewer than four rows takes longer than
one of four, so rows are repeated. In fp32, only the order of summation differs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - everybody calls it so

from headway.engine.architecture import Activation

FEWEST_ROWS = 4
TYPICAL_ROWS = 8  # what the layout is chosen for

_FUSED: dict[Activation, tuple[str, str]] = {"gelu_tanh": ("gelu", "tanh"), "silu": ("swish", "")}
_PLAIN = ("none", "")


def native_dtype() -> torch.dtype:
    """Return bf16 where the processor multiplies it, half the memory and up to four times the speed; else fp32."""
    bf16: bool = _has_onednn() and torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001 - no public name
    return torch.bfloat16 if bf16 else torch.float32


class Linear:
    """x -> x @ weight.T. Holds the reordered weights only; plain ones where oneDNN is not available."""

    def __init__(self, weight: Tensor) -> None:
        self.bytes = weight.nbytes
        self._packs = _packs(weight)
        self._weight = _pack(weight) if self._packs else weight

    def __call__(self, rows: Tensor) -> Tensor:
        """Return (N, outputs) of (N, inputs)."""
        if not self._packs:
            return F.linear(rows, self._weight)
        out = _product(_repeated(rows), self._weight, _PLAIN)
        return out[: rows.shape[0]]


class FeedForward:
    """x -> (activation(x @ gate.T) * (x @ up.T)) @ down.T, from gate and up stacked (2 F, E) and down (E, F).

    In bf16, activation and product happen inside the matrix products, before their results are rounded. In fp32 they
    stay apart, as the reference has them: fused is as exact, but near-ties between tokens fall the other way.
    """

    def __init__(self, gate_up: Tensor, down: Tensor, activation: Activation) -> None:
        self.bytes = gate_up.nbytes + down.nbytes
        self._activation = activation
        self._packs = _packs(gate_up)
        self._fuses = gate_up.dtype != torch.float32
        gate, up = gate_up.chunk(2)
        weights = (gate, up, down)
        self._gate, self._up, self._down = map(_pack, weights) if self._packs else weights

    def __call__(self, rows: Tensor) -> Tensor:
        """Return (N, E) of (N, E)."""
        if not self._packs:
            gate, up = F.linear(rows, self._gate), F.linear(rows, self._up)
            return F.linear(self._active(gate) * up, self._down)
        padded = _repeated(rows)
        if self._fuses:
            active = _product(padded, self._gate, _FUSED[self._activation])
            fed = torch.ops.mkldnn._linear_pointwise.binary(padded, active, self._up, None, "mul")  # noqa: SLF001 - as below
        else:
            gate = _product(padded, self._gate, _PLAIN)
            fed = self._active(gate) * _product(padded, self._up, _PLAIN)
        return _product(fed, self._down, _PLAIN)[: rows.shape[0]]

    def _active(self, gate: Tensor) -> Tensor:
        if self._activation == "gelu_tanh":
            return F.gelu(gate, approximate="tanh")
        return F.silu(gate)


def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def _packs(weight: Tensor) -> bool:
    """Can oneDNN hold it? It computes fp32 anywhere, and narrower types where the processor does."""
    narrow = weight.dtype != torch.float32
    supported = not narrow or weight.dtype == native_dtype()
    return weight.device.type == "cpu" and _has_onednn() and supported


def _pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), TYPICAL_ROWS)  # noqa: SLF001 - as below
    return packed


def _product(rows: Tensor, weight: Tensor, activation: tuple[str, str]) -> Tensor:
    name, algorithm = activation
    out: Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001 - the public op packs anew each call
        rows, weight, None, name, [], algorithm
    )
    return out


def _repeated(rows: Tensor) -> Tensor:
    """Return at least FEWEST_ROWS rows, of which the first are `rows`."""
    count = rows.shape[0]
    if count >= FEWEST_ROWS or not count:
        return rows
    return torch.cat((rows,) * -(-FEWEST_ROWS // count))
