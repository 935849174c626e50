"""Rows of the vocabulary by token, without holding the vocabulary twice.

A tied embedding is also the head, which needs it in another layout. Where the rows of a step can be read from the
file's memory map, the only copy in memory is the head's: half of a small model's weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - everybody calls it so

# Shapes: N tokens of the step, E hidden, V vocabulary.


class Embedding(Protocol):
    """Rows (E,) by token id. `bytes` is the memory it holds, what the system maps aside."""

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def bytes(self) -> int: ...

    def rows(self, tokens: Tensor) -> Tensor:
        """Return (N, E) of token ids (N,)."""
        ...

    def table(self) -> Tensor:
        """Return all rows (V, E); it may be a copy, which the caller drops soon."""
        ...


class Table(NamedTuple):
    """An embedding in memory."""

    weight: Tensor  # (V, E)

    @property
    def dtype(self) -> torch.dtype:
        """Of its rows."""
        return self.weight.dtype

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.weight.nbytes

    def rows(self, tokens: Tensor) -> Tensor:
        """Return (N, E) of token ids (N,)."""
        return F.embedding(tokens, self.weight)

    def table(self) -> Tensor:
        """Return the embedding itself."""
        return self.weight


class FileRows(NamedTuple):
    """An embedding in a file that stays mapped: a step's rows are dequantised when it needs them."""

    read: Callable[[NDArray[np.int64]], NDArray[np.float32]]  # ids (N,) -> (N, E)
    whole: Callable[[], Tensor]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """Nothing but what the system keeps mapped, and takes back when it likes."""
        return 0

    def rows(self, tokens: Tensor) -> Tensor:
        """Return (N, E) of token ids (N,)."""
        ids, places = np.unique(tokens.numpy(), return_inverse=True)  # prompts repeat themselves
        found = torch.from_numpy(self.read(ids)).to(self.dtype)
        return found.index_select(0, torch.from_numpy(places))

    def table(self) -> Tensor:
        """Dequantise all rows, which takes a while."""
        return self.whole()


def as_embedding(given: Tensor | Embedding) -> Embedding:
    """Wrap a plain tensor."""
    return Table(given) if isinstance(given, Tensor) else given
