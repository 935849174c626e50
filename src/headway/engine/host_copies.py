"""Copies of KV on the host, by request: what went out, what was added to it since, what a next turn goes on with.

The table belongs to the loop's thread, the content of a copy to the transfer thread, where things happen in the order
in which the loop asked for them. A copy knows the tokens that it was computed from: one that does not fit the request
it comes back for is refused, whatever the books say, so that nothing is ever read that is not true.
"""

from __future__ import annotations

from collections.abc import Sequence

from headway.core.plan import KEEP, SWAP_IN
from headway.engine.kv_pool import KvCopy, KvPool


class HostCopy:
    """One request's. `kept`: it outlives the request."""

    __slots__ = ("_fault", "_pieces", "_tokens", "kept")

    def __init__(self) -> None:
        self.kept = False
        self._pieces: list[KvCopy] = []  # one after the other
        self._tokens: list[int] = []
        self._fault = ""

    @property
    def bytes(self) -> int:
        """Memory it takes."""
        return sum(piece.bytes for piece in self._pieces)

    def add(
        self, pool: KvPool, first: int, blocks: Sequence[int], tokens: Sequence[int], extents: int
    ) -> None:
        """Copy `blocks` behind the `first` that are here; `tokens` are those of them all.

        Raises:
            LookupError: it does not have that many, or has those of other tokens.
        """
        try:
            self._add(pool, first, blocks, tokens, extents)
        except Exception as error:
            self.spoil(str(error))
            raise

    def spoil(self, reason: str) -> None:
        """It holds nothing that is true, and never will."""
        self._fault = self._fault or f"its way to the host failed: {reason}"
        self._pieces, self._tokens = [], []

    def holds(self, tokens: Sequence[int]) -> bool:
        """Is it a true copy of `tokens`, whatever comes behind them? Not to be asked while it is being written."""
        return not self._fault and bool(self._pieces) and self._tokens[: len(tokens)] == tokens

    def bring_back(self, pool: KvPool, blocks: Sequence[int], tokens: Sequence[int]) -> None:
        """Write the KV of `tokens` into `blocks`, and forget what lies behind them.

        Raises:
            LookupError: it does not have that of all of them.
        """
        if not self.holds(tokens):
            raise LookupError(self._fault or "there is no copy of its KV in this process")
        at = 0
        for piece in self._pieces:
            if at >= len(blocks):
                break
            part = piece.first(len(blocks) - at)
            pool.copy_in(part, blocks[at:])
            at += part.blocks
        self._cut(len(blocks))
        self._tokens = list(tokens)

    def _add(
        self, pool: KvPool, first: int, blocks: Sequence[int], tokens: Sequence[int], extents: int
    ) -> None:
        here = first * pool.block_tokens
        if not self._cut(first) or self._tokens[:here] != tokens[:here]:
            raise LookupError(f"the host does not have the {first} blocks before")
        self._pieces += [pool.copy_out(piece, ()) for piece in _pieces(blocks, extents)]
        self._tokens = list(tokens[: here + len(blocks) * pool.block_tokens])

    def _cut(self, blocks: int) -> bool:
        """Forget what lies behind the first `blocks`; says if there are as many."""
        if self._fault:
            return False
        kept: list[KvCopy] = []
        for piece in self._pieces:
            if not blocks:
                break
            part = piece.first(blocks)
            if piece.blocks - part.blocks > 1:  # a view of it would hold the memory of it all
                part = KvCopy(part.keys.clone(), part.values.clone(), part.tokens)
            kept.append(part)
            blocks -= part.blocks
        self._pieces = kept
        return not blocks


class HostTable:
    """All copies of an executor. For the loop's thread."""

    def __init__(self) -> None:
        self._copies: dict[int, HostCopy] = {}

    def __len__(self) -> int:
        return len(self._copies)

    def copy_for(self, kind: str, request_id: int, first: int) -> HostCopy:
        """The copy that a transfer writes or reads; one that begins at the first block begins a new one."""
        copy = self._copies.get(request_id)
        if copy is None or (kind != SWAP_IN and not first):
            copy = self._copies[request_id] = HostCopy()
        copy.kept = kind == KEEP
        return copy

    def adopt(self, from_id: int, to_id: int, tokens: Sequence[int]) -> bool:
        """Hand a copy over to another request, which begins with `tokens`: its own from now on.

        False: there is none, or none of these tokens; it is forgotten.
        """
        copy = self._copies.pop(from_id, None)
        if copy is None or not copy.holds(tokens):
            return False
        copy.kept = False
        self._copies[to_id] = copy
        return True

    def drop(self, request_id: int) -> None:
        """Forget a copy; unknown ids are ignored."""
        self._copies.pop(request_id, None)

    def release(self, request_id: int) -> None:
        """Its request has ended: forget the copy unless it is kept."""
        copy = self._copies.get(request_id)
        if copy is not None and not copy.kept:
            del self._copies[request_id]


def _pieces(blocks: Sequence[int], extents: int) -> list[Sequence[int]]:
    """As a transfer moves them: gathered, one by one, or by runs of neighbours."""
    if not blocks:
        return []
    if extents <= 1:
        return [blocks]
    cuts = [0]
    cuts += [
        n for n in range(1, len(blocks)) if extents == len(blocks) or blocks[n] != blocks[n - 1] + 1
    ]
    return [blocks[a:b] for a, b in zip(cuts, [*cuts[1:], len(blocks)], strict=True)]
