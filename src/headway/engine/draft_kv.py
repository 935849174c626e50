"""The draft model's KV, on the target's block tables: the same block numbers, no second allocator.

Nobody tells a drafter that a block was freed, shared, swapped or filled anew. Instead every slot knows the text that
its KV was computed from, so that whoever comes by any way to a block finds out by itself what of it is true: what a
prefix cache shares is shared by the drafter too, what it lacks it computes again, and a rejected draft is no case.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headway.engine.decoder import Decoder
from headway.engine.kv_pool import KvPool

NOBODY = -1  # no text: Python's `hash` never says so

# Shapes: n tokens from the beginning of a text.


class Trail:
    """A growing text as one number a token, each standing for the whole text up to there."""

    __slots__ = ("_marks",)

    def __init__(self) -> None:
        self._marks = array("q")

    def marks(self, tokens: Sequence[int], count: int) -> NDArray[np.int64]:
        """Return those of the first `count` tokens (n,); the text may only have grown since the last call."""
        marks = self._marks
        mark = marks[-1] if marks else 0
        for token in tokens[len(marks) : count]:
            mark = after(mark, token)
            marks.append(mark)
        return np.array(marks[:count], np.int64)


def after(mark: int, token: int) -> int:
    """Return the number of a text that goes on with `token`."""
    return hash((mark, token))


class DraftKv:
    """A pool, and what is known of each of its slots. For several threads at once, on disjoint sequences.

    Two sequences that share blocks may both write them: what they write is the same.

    Raises:
        DoesNotFitError: the memory cannot be had.
    """

    def __init__(self, model: Decoder, blocks: int, block_tokens: int) -> None:
        self.pool = KvPool(model.config, blocks, block_tokens, model.dtype)
        self._marks = np.full(blocks * block_tokens, NOBODY, np.int64)

    def known(self, marks: NDArray[np.int64], blocks: Sequence[int]) -> int:
        """Return how many of the first tokens of a text have their KV in `blocks`."""
        differ = self._marks[self._slots(0, len(marks), blocks)] != marks
        return int(differ.argmax()) if differ.any() else len(marks)

    def forget(self, first: int, tokens: int, blocks: Sequence[int]) -> None:
        """The KV of these tokens is about to be written: until `learn`, it is nobody's."""
        self._marks[self._slots(first, tokens, blocks)] = NOBODY

    def learn(self, first: int, marks: Sequence[int], blocks: Sequence[int]) -> None:
        """The KV of tokens from `first` on has been written: all layers, behind KV that was true."""
        self._marks[self._slots(first, len(marks), blocks)] = marks

    def _slots(self, first: int, tokens: int, blocks: Sequence[int]) -> NDArray[np.int64]:
        size = self.pool.block_tokens
        places = np.arange(first, first + tokens)
        return np.asarray(blocks, np.int64)[places // size] * size + places % size
