"""How the tokens of a step lie in one flat batch, and which KV slots each of them sees.

Sequences with equally few new tokens (decodes, decodes with drafts) of similar context are attended together,
padded to the longest; everything longer is attended alone, in tiles that skip the keys no query of theirs sees.
Padding repeats a sequence's own slots and is hidden, so no sequence ever reads another's KV.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Shapes: N tokens of the step, S sequences of a group, T new tokens of each, L slots each sees.

FEW_TOKENS = 8  # up to here, sequences share one attention call
TILE_TOKENS = 128  # queries of a long chunk that share keys: fewer would read K and V too often
LEAST_SLOTS = 512  # contexts below this are not told apart when grouping


class Span(NamedTuple):
    """New tokens of one sequence: `tokens` positions from `start`; `blocks` is its block table."""

    start: int
    tokens: int
    blocks: Sequence[int]


class Hidden(NamedTuple):
    """Keys of a tile that some of its queries must not see; those beside them are seen by all."""

    first: int  # key of the tile
    mask: Tensor  # (S, rows, keys), True where a query must not look


class Tile(NamedTuple):
    """Some queries of a group, and the keys that any of them sees."""

    row: int  # of the T tokens
    rows: int
    key: int  # of the L slots
    keys: int
    hidden: tuple[Hidden, ...]


class Reach(NamedTuple):
    """What the sequences of a group see in layers of one kind."""

    slots: Tensor  # (S L), long
    tiles: tuple[Tile, ...]  # every query is in exactly one


class Group(NamedTuple):
    """Sequences that are attended together; rows `first` to `first + sequences * tokens` of the batch."""

    first: int
    sequences: int
    tokens: int
    wide: Reach  # global layers
    local: Reach  # sliding layers


class Layout(NamedTuple):
    """One flat batch."""

    positions: Tensor  # (N,), long
    slots: Tensor  # (N,), long: where the new KV goes
    groups: tuple[Group, ...]
    rows: tuple[int, ...]  # by span: its first row


def lay_out(spans: Sequence[Span], block_tokens: int, window: int) -> Layout:
    """Arrange `spans`; those of one group lie side by side."""
    members: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, span in enumerate(spans):
        if span.start + span.tokens > len(span.blocks) * block_tokens:
            raise ValueError(
                f"{span.start + span.tokens} tokens do not fit in {len(span.blocks)} blocks of {block_tokens}"
            )
        if span.tokens <= FEW_TOKENS:
            reach = max(LEAST_SLOTS, span.start + span.tokens - 1)
            members[span.tokens, reach.bit_length()].append(index)
        else:
            members[span.tokens, -1 - index].append(index)
    rows, positions, slots, groups, first = [0] * len(spans), [], [], [], 0
    for (tokens, _), indices in members.items():
        group = [spans[index] for index in indices]
        queries = np.array([span.start for span in group])[:, None] + np.arange(tokens)  # (S, T)
        tables = _tables(group)
        positions.append(queries.ravel())
        slots.append(_slots(tables, queries, block_tokens).ravel())
        wide = _reach(tables, queries, block_tokens, None)
        ends_within = int(queries.max()) < window
        local = wide if ends_within else _reach(tables, queries, block_tokens, window)
        groups.append(Group(first, len(group), tokens, wide, local))
        for index in indices:
            rows[index] = first
            first += tokens
    return Layout(
        torch.from_numpy(np.concatenate(positions)),
        torch.from_numpy(np.concatenate(slots)),
        tuple(groups),
        tuple(rows),
    )


def _tables(spans: Sequence[Span]) -> NDArray[np.int64]:
    tables = np.zeros((len(spans), max(len(span.blocks) for span in spans)), np.int64)
    for row, span in zip(tables, spans, strict=True):
        row[: len(span.blocks)] = span.blocks
    return tables


def _slots(
    tables: NDArray[np.int64], positions: NDArray[np.int64], block_tokens: int
) -> NDArray[np.int64]:
    blocks = np.take_along_axis(tables, positions // block_tokens, 1)
    return blocks * block_tokens + positions % block_tokens


def _reach(
    tables: NDArray[np.int64], queries: NDArray[np.int64], block_tokens: int, window: int | None
) -> Reach:
    """Return the slots of all keys that any query sees, and who of them sees which."""
    sequences, tokens = queries.shape
    last = queries[:, -1:]  # (S, 1)
    first = np.zeros_like(last) if window is None else np.maximum(0, queries[:, :1] - window + 1)
    keys = first + np.arange(int((last - first).max()) + 1)  # (S, L)
    slots = _slots(tables, np.minimum(keys, last), block_tokens)
    if sequences > 1 or tokens <= TILE_TOKENS:
        tiles = [_tile(0, queries, 0, keys, window)]
    else:
        tiles = []
        for row in range(0, tokens, TILE_TOKENS):
            rows = queries[:, row : row + TILE_TOKENS]
            stop = int(rows[0, -1] - first[0, 0]) + 1
            start = 0 if window is None else max(0, int(rows[0, 0] - first[0, 0]) - window + 1)
            tiles.append(_tile(row, rows, start, keys[:, start:stop], window))
    return Reach(torch.from_numpy(slots.ravel()), tuple(tiles))


def _tile(
    row: int, queries: NDArray[np.int64], key: int, keys: NDArray[np.int64], window: int | None
) -> Tile:
    unseen = keys[:, None, :] > queries[:, :, None]  # (S, T, L)
    if window is not None:
        unseen |= keys[:, None, :] <= queries[:, :, None] - window
    return Tile(row, queries.shape[1], key, keys.shape[1], _hidden(unseen))


def _hidden(unseen: NDArray[np.bool_]) -> tuple[Hidden, ...]:
    """Cut (S, T, L) down to where anything is unseen: before the window, and after the query."""
    columns = np.flatnonzero(unseen.any((0, 1)))
    if not len(columns):
        return ()
    cut = int(np.diff(columns, prepend=columns[0]).argmax())  # 0: one piece
    pieces = (columns[:cut], columns[cut:]) if cut else (columns,)
    return tuple(
        Hidden(int(piece[0]), torch.from_numpy(unseen[..., piece[0] : piece[-1] + 1].copy()))
        for piece in pieces
    )
