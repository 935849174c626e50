"""Naming what a prompt begins with, block by block, and what was answered to it, so that it can be found again.

The server names prompts, and an instance with the same key names the answers that it made to them: the next turn's
prompt, which begins with both, has the names of both.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence as Seq
from hashlib import blake2b

from headway.core.request import PrefixExtent
from headway.core.sequence import Sequence

KEY_BYTES = 16
_HASH_BYTES = 8


class PrefixHasher:
    """Hashes of whole blocks: each names its block's tokens and all before, 64 bits of a keyed BLAKE2b.

    A block's hash is of the hash before it and its own tokens, so that whoever has the last one can go on. `key` is
    drawn anew by every server: nobody outside can find two prompts of one hash. `salted` mixes the tenant in, so that
    equal prompts of two tenants have nothing in common.
    """

    def __init__(self, key: bytes, block_tokens: int, *, salted: bool = True) -> None:
        self._key, self._block, self._salted = key, block_tokens, salted

    def extents(self, ids: Seq[int], tenant: str) -> tuple[PrefixExtent, ...]:
        """One extent for each whole block of `ids`."""
        return tuple((found, self._block) for found in self._chain(ids, self._root(tenant)))

    def answer(self, sequence: Sequence) -> list[int]:
        """Hashes of the whole blocks that continue the prompt's, up to what is computed.

        None where tokens are not known by id, or the prompt was not named by `extents`.
        """
        request, size = sequence.request, self._block
        named = request.prompt_tokens // size
        if request.prompt_ids is None or len(request.prefix) != named:
            return []
        ids = (*request.prompt_ids[named * size :], *(sequence.output_ids or ()))
        count = sequence.computed_tokens - named * size
        if request.period_ns or sequence.denoises or len(ids) < count:
            return []  # not all of its tokens are prompt and output
        before = request.prefix[-1][0].to_bytes(_HASH_BYTES, "little") if named else None
        return self._chain(ids[:count], before or self._root(request.tenant))

    def _root(self, tenant: str) -> bytes:
        name = tenant.encode() if self._salted else b""
        return blake2b(name, key=self._key, digest_size=_HASH_BYTES).digest()

    def _chain(self, ids: Seq[int], before: bytes) -> list[int]:
        flat, size, key = array("q", ids).tobytes(), 8 * self._block, self._key
        found = []
        for start in range(0, len(flat) - size + 1, size):
            block = before + flat[start : start + size]
            before = blake2b(block, key=key, digest_size=_HASH_BYTES).digest()
            found.append(int.from_bytes(before, "little"))
        return found
