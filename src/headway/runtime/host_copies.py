"""Copies of KV on the host that are still true: of sequences that came back, and of turns that ended.

KV is only ever appended: of a sequence that was on the host and came back, all full blocks of that time are still
true, and the next way out moves the blocks after them. When a turn ends and the device is nearly full, what the host
lacks of it is copied there; the next turn starts from the host unless the device's prefix cache holds more. Where there
is no room, the oldest turns are forgotten first, then the copies of those who come last in the ordering's order.

A workload knows whether a turn follows, and under which extent it asks for all of this one. A server knows neither:
there the last request of each session is kept on the chance of another, which takes over as many blocks as it begins
with.

Source: Shen et al., "FastSwitch", 2024, KV reuse across turns: copies of low priority are overwritten first. Differs:
an ended turn has no priority any more; the oldest goes.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from headway.core.plan import KEEP
from headway.core.protocols import HostCopies
from headway.core.request import PrefixExtent, Request
from headway.core.sequence import RUNNING, Sequence

if TYPE_CHECKING:
    from headway.runtime.instance import Instance, InstanceOptions
    from headway.runtime.prefix_index import NameAnswer
    from headway.runtime.traits import CopyTraits

_AMPLE = (
    4  # while a fourth of the device's blocks is unused, its prefix cache keeps turns by itself
)
_LOOKS = 8  # waiting sequences that are compared with the host before a plan


_Key = tuple[Literal["extent", "session"], str, int]  # and its tenant


class _Turn(NamedTuple):
    request_id: int
    blocks: int
    chain: tuple[int, ...]  # each block's hash, where prompts are named by blocks


class Copies:
    """An instance's copies, as its memory policy wants them. `held` blocks, none of what is swapped out."""

    def __init__(self, instance: Instance, traits: CopyTraits, options: InstanceOptions) -> None:
        self._instance, self._traits, self._salted = instance, traits, options.salted
        self._names, self._host_blocks = options.names, options.host_blocks
        self.held = 0
        self._true: dict[Sequence, int] = {}  # blocks from the first on, of who is on the device
        self._turns: dict[_Key, _Turn] = {}  # oldest first

    # -- of sequences that are here ----------------------------------------------------------------------------------

    def returned(self, sequence: Sequence) -> None:
        """It came back from the host; a block that is not full yet will change."""
        blocks = sequence.computed_tokens // self._instance.pool.block_tokens
        if self._traits.incremental and blocks:
            self._true[sequence] = blocks
            self.held += blocks
            self.fit()
        else:
            self._drop(sequence.id)

    def take(self, sequence: Sequence) -> int:
        """Blocks the host has of a sequence that goes there again; they are counted as swapped out now."""
        blocks = self._true.pop(sequence, 0)
        self.held -= blocks
        return blocks

    def forget(self, sequence: Sequence) -> None:
        """Its KV is dropped, or lives elsewhere."""
        if self.take(sequence):
            self._drop(sequence.id)

    # -- of turns ----------------------------------------------------------------------------------------------------

    def end_turn(self, sequence: Sequence, *, whole: bool) -> None:
        """Copy what the host lacks of a `whole` turn that ends; called before its blocks are given back.

        A step in flight writes only behind the blocks that are full.
        """
        instance = self._instance
        before = self.take(sequence)
        blocks = sequence.computed_tokens // instance.pool.block_tokens
        wanted = whole and self._traits.turns and self._key(sequence.request) is not None and blocks
        usable = sequence.state == RUNNING and blocks <= self._most()
        if wanted and usable and self._device_is_full():
            instance.moves.start(KEEP, sequence, first=before, blocks=blocks - before)
            instance.moves.hold()
        elif before:
            self._drop(sequence.id)

    def kept(self, sequence: Sequence, blocks: int) -> None:
        """All of a turn is on the host."""
        request, chain = sequence.request, list[int]()
        key = cast("_Key", self._key(request))
        if key[0] == "session":
            named = [found for found, _ in request.prefix]
            chain = [*named, *cast("NameAnswer", self._names)(sequence)][:blocks]
        old = self._turns.pop(key, None)
        if old is not None:
            self._forget_turn(old)
        self._turns[key] = _Turn(sequence.id, blocks, tuple(chain))
        self.held += blocks
        self.fit()

    def adopt(self, waiting: Seq[Sequence]) -> None:
        """Let those first in line start from the host: they are swapped out from now on."""
        if not self._turns:
            return
        pool, moves = self._instance.pool, self._instance.moves
        for sequence in waiting[:_LOOKS]:
            request = sequence.request
            if sequence.swapped or sequence.computed_tokens or not request.prefix:
                continue
            key, blocks = self._longest(request)
            blocks = min(blocks, (request.prompt_tokens - 1) // pool.block_tokens)
            if key is None or not blocks:
                continue
            nodes = pool.index.match(request, pool.block_tokens) if pool.index else ()
            if nodes and nodes[-1].end_blocks >= blocks:
                continue
            turn = self._turns.pop(key)
            self.held -= turn.blocks
            executor = cast("HostCopies", self._instance.executor)
            if not executor.adopt_copy(turn.request_id, sequence, blocks * pool.block_tokens):
                continue  # it is no good, and gone: this turn is computed
            sequence.swapped = True
            sequence.computed_tokens = sequence.cached_tokens = blocks * pool.block_tokens
            moves.host_held += blocks

    def fit(self) -> None:
        """Forget copies until the others fit."""
        most = self._most()
        while self.held > most and self._turns:
            self._forget_turn(self._turns.pop(next(iter(self._turns))))
        while self.held > most:
            self.forget(max(self._true, key=lambda sequence: sequence.order))

    def _device_is_full(self) -> bool:
        """Will the prefix cache soon evict?"""
        pool = self._instance.pool
        if pool.index is None:
            return True
        return (pool.free - pool.index.evictable_blocks) * _AMPLE < pool.total

    def _most(self) -> int:
        if self._host_blocks is None:
            return self._traits.blocks
        return min(self._traits.blocks, self._host_blocks - self._instance.moves.host_held)

    def _key(self, request: Request) -> _Key | None:
        """Under what the turn after it will look for it; None: no turn will."""
        tenant = request.tenant if self._salted else ""
        if request.next_extent is not None:
            return "extent", tenant, request.next_extent
        if self._names is not None and request.session is not None:
            return "session", tenant, request.session
        return None

    def _longest(self, request: Request) -> tuple[_Key | None, int]:
        """The kept turn that it continues, and how many blocks of it: its session's, or by the deepest extent."""
        tenant = request.tenant if self._salted else ""
        if self._names is not None:
            key: _Key = ("session", tenant, -1 if request.session is None else request.session)
            turn = self._turns.get(key)
            return (None, 0) if turn is None else (key, _common(turn.chain, request.prefix))
        for extent, _ in reversed(request.prefix):
            key = ("extent", tenant, extent)
            if key in self._turns:
                return key, self._turns[key].blocks
        return None, 0

    def _forget_turn(self, turn: _Turn) -> None:
        self.held -= turn.blocks
        self._drop(turn.request_id)

    def _drop(self, request_id: int) -> None:
        cast("HostCopies", self._instance.executor).drop_copy(request_id)


def _common(chain: Seq[int], prefix: Seq[PrefixExtent]) -> int:
    """Blocks that both begin with. A hash names all before it, so the last equal one is found by halves."""
    low, high = 0, min(len(chain), len(prefix))
    while low < high:
        middle = (low + high + 1) // 2
        if chain[middle - 1] == prefix[middle - 1][0]:
            low = middle
        else:
            high = middle - 1
    return low
