"""Naming a prompt's prefixes, block by block, so that the prefix cache can find them again."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b

from headway.core.request import PrefixExtent

KEY_BYTES = 16


class PrefixHasher:
    """Hashes of whole blocks: each names its block's tokens and all before, 64 bits of a keyed BLAKE2b.

    `key` is drawn anew by every process: nobody outside can find two prompts of one hash. `salted` mixes the
    tenant in, so that equal prompts of two tenants have nothing in common.
    """

    def __init__(self, key: bytes, block_tokens: int, *, salted: bool = True) -> None:
        self._key, self._block, self._salted = key, block_tokens, salted

    def extents(self, ids: Sequence[int], tenant: str) -> tuple[PrefixExtent, ...]:
        """One extent for each whole block of `ids`."""
        running = blake2b(key=self._key, digest_size=8)
        if self._salted:
            name = tenant.encode()
            running.update(len(name).to_bytes(8, "little") + name)
        flat, size = array("q", ids).tobytes(), 8 * self._block
        found = []
        for start in range(0, len(flat) - size + 1, size):
            running.update(flat[start : start + size])
            found.append((int.from_bytes(running.copy().digest(), "little"), self._block))
        return tuple(found)
