"""Matrix products with fixed weights, in the layout oneDNN likes best.

PyTorch's own product reads plain fp32 weights at a third of the memory's speed when there are few rows; with the
weights reordered once the head is 2 to 4 times as fast at 1 to 16 rows. A product of fewer than four rows takes
longer than one of four, so rows are padded. Still fp32: only the order of summation differs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - everybody calls it so

FEWEST_ROWS = 4
TYPICAL_ROWS = 8  # what the layout is chosen for


class Linear:
    """x -> x @ weight.T. Holds the reordered weights only; plain ones where oneDNN is not available."""

    def __init__(self, weight: Tensor) -> None:
        self._outputs = weight.shape[0]
        self.bytes = weight.nbytes
        self._packs = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        self._weight = (
            torch.ops.mkldnn._reorder_linear_weight(weight, TYPICAL_ROWS) if self._packs else weight  # noqa: SLF001 - the public op packs anew each call
        )

    def __call__(self, rows: Tensor) -> Tensor:
        """Return (N, outputs) of (N, inputs)."""
        if not self._packs:
            return F.linear(rows, self._weight)
        count = rows.shape[0]
        padded = F.pad(rows, (0, 0, 0, FEWEST_ROWS - count)) if count < FEWEST_ROWS else rows
        out: Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001 - the public op packs anew each call
            padded, self._weight, None, "none", [], ""
        )
        return out[:count]
