"""A consistent hash ring: who joins or leaves takes over or gives up its own arcs, and nothing else moves.

Source: Karger et al., "Consistent Hashing and Random Trees", STOC 1997.
Differs: every name has several points, so that arcs are about equally long.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from hashlib import blake2b


class HashRing:
    """Names on a circle of 64-bit hashes. Places depend on a name alone, never on who else is there."""

    def __init__(self, names: Iterable[str], points: int = 64) -> None:
        """`points` of each name."""
        ring = sorted((_hash(f"{name}/{n}"), name) for name in names for n in range(points))
        self._places = [place for place, _ in ring]
        self._names = [name for _, name in ring]
        self._count = len(set(self._names))

    def choices(self, key: object, count: int) -> tuple[str, ...]:
        """Clockwise successors of `count` hashes of a key, all different: a name met again gives way to the next.

        Fewer when the ring has fewer. When somebody leaves, only choices that contained it change.
        """
        names, found = self._names, list[str]()
        for n in range(min(count, self._count)):
            at = bisect_right(self._places, _hash(f"{n}:{key}")) % len(names)
            while names[at] in found:
                at = (at + 1) % len(names)
            found.append(names[at])
        return tuple(found)


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
