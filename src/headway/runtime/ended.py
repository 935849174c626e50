"""Which requests have ended here, so that a message delivered twice does nothing twice."""

from __future__ import annotations

from collections import OrderedDict


class EndedIds:
    """Remembers the last `most` ids, oldest forgotten first."""

    def __init__(self, most: int = 100_000) -> None:
        self._most = most
        self._ids: OrderedDict[int, None] = OrderedDict()  # a dict's first key is slow to find

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._ids

    def add(self, request_id: int) -> None:
        """Note an end."""
        ids = self._ids
        ids[request_id] = None
        if len(ids) > self._most:
            ids.popitem(last=False)
