"""The KV memory of one instance: every layer's keys and values in blocks, and copies of them outside.

Which sequence owns which block is the runtime's business; here, block ids only index tensors. Steps of
different lanes and transfers run on different threads, but never on the same block at the same time.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headway.engine.architecture import Architecture
from headway.errors import DoesNotFitError

# Shapes: P blocks, B block size, K key/value heads, D head size, N tokens, n blocks of one sequence.


@dataclass(frozen=True, slots=True)
class KvCopy:
    """KV of one sequence outside the pool, and the tokens it was computed from (as far as known)."""

    keys: Tensor  # (layers, n, B, K, D)
    values: Tensor  # (layers, n, B, K, D)
    tokens: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Memory it takes."""
        return self.keys.nbytes + self.values.nbytes

    @property
    def blocks(self) -> int:
        """How many."""
        return self.keys.shape[1]

    def first(self, blocks: int) -> KvCopy:
        """Return its first blocks, at most as many as there are."""
        if blocks >= self.blocks:
            return self
        return KvCopy(self.keys[:, :blocks], self.values[:, :blocks], self.tokens)


class KvPool:
    """Keys and values of all layers, `blocks` x `block_tokens` slots each, in the type the model computes with.

    Raises:
        DoesNotFitError: the memory cannot be had.
    """

    def __init__(
        self,
        config: Architecture,
        blocks: int,
        block_tokens: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.blocks, self.block_tokens = blocks, block_tokens
        shape = (config.layers, blocks, block_tokens, config.kv_heads, config.head_size)
        try:
            self._keys, self._values = (
                _zeros(shape, dtype),
                _zeros(shape, dtype),
            )  # (layers, P, B, K, D)
        except (OSError, OverflowError) as error:
            size = 2 * math.prod(shape) * dtype.itemsize / 2**30
            raise DoesNotFitError(
                f"{blocks} blocks of {block_tokens} tokens need {size:.1f} GiB: take fewer blocks"
            ) from error
        flat = (blocks * block_tokens, config.kv_heads, config.head_size)
        self.keys = [layer.view(flat) for layer in self._keys]  # per layer: (P B, K, D)
        self.values = [layer.view(flat) for layer in self._values]

    def copy_out(self, blocks: Sequence[int], tokens: Sequence[int]) -> KvCopy:
        """Copy the KV of `blocks`."""
        index = torch.tensor(blocks, dtype=torch.long)
        keys, values = self._keys.index_select(1, index), self._values.index_select(1, index)
        return KvCopy(keys, values, tuple(tokens))

    def copy_in(self, copy: KvCopy, blocks: Sequence[int]) -> None:
        """Write a copy into the first of `blocks`, in order; there may be more of them."""
        count = copy.keys.shape[1]
        index = torch.tensor(blocks[:count], dtype=torch.long)
        self._keys.index_copy_(1, index, copy.keys)
        self._values.index_copy_(1, index, copy.values)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return zeros whose memory the system hands out as it is written.

    Zeros, not just any: a masked score weighs 0, and 0 x NaN is NaN.
    """
    count = math.prod(shape)
    return torch.frombuffer(mmap.mmap(-1, count * dtype.itemsize), dtype=dtype).view(shape)
