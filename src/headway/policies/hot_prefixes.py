"""How deep into its prefix a request is told apart: a popular beginning is split where its requests differ.

Over a sliding window of requests every beginning has a share. One with a share above `hot` is split one extent
deeper, again and again, until every part is cold; it is whole again once its share has fallen below `cool` of that.

Source: "DualMap", its hot-prefix tree (shares above twice an instance's part are split).
Differs: the paper does not say when parts are merged: at half the share that splits them, so that nothing flaps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence as Seq


class HotPrefixes:
    """Counts beginnings of at least `depth` extents over the last `window` requests."""

    def __init__(self, depth: int, window: int, most_depth: int = 32, cool: float = 0.5) -> None:
        self._depth, self._most, self._cool = depth, most_depth, cool
        self._recent: deque[Seq[Hashable]] = deque()
        self._window = window
        self._counts: dict[Hashable, int] = {}
        self._split: set[Hashable] = set()

    def key(self, extents: Seq[Hashable], hot: float) -> Hashable:
        """Count a request and return the extent that names as much of its prefix as tells it apart.

        `hot` is the share that splits. Shares are of a quarter of the window at least: the first few requests
        are not popular yet.
        """
        counted = extents[min(self._depth, len(extents)) - 1 : self._most]
        self._count(counted)
        limit = hot * max(len(self._recent), self._window // 4)
        split, counts, key = self._split, self._counts, counted[0]
        for key in counted:
            if counts[key] > limit:
                split.add(key)
            elif counts[key] < self._cool * limit:
                split.discard(key)
            if key not in split:
                break
        return key

    def _count(self, counted: Seq[Hashable]) -> None:
        counts = self._counts
        self._recent.append(counted)
        for key in counted:
            counts[key] = counts.get(key, 0) + 1
        if len(self._recent) > self._window:
            for key in self._recent.popleft():
                counts[key] -= 1
                if not counts[key]:
                    del counts[key]
                    self._split.discard(key)
