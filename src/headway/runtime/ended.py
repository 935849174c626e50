"""Which requests have ended here, so that a message delivered twice does nothing twice."""

from __future__ import annotations


class EndedIds:
    """Remembers the last `most` ids, oldest forgotten first."""

    def __init__(self, most: int = 100_000) -> None:
        self._most = most
        self._ids: dict[int, None] = {}

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._ids

    def add(self, request_id: int) -> None:
        """Note an end."""
        ids = self._ids
        ids[request_id] = None
        if len(ids) > self._most:
            del ids[next(iter(ids))]
