"""Where executors of one process leave KV for each other: prefill to decode, migration."""

from __future__ import annotations

from threading import Lock

from headway.engine.kv_pool import KvCopy


class KvExchange:
    """Copies by request id and first block, each taken once. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._copies: dict[int, dict[int, KvCopy]] = {}

    def put(self, request_id: int, first: int, copy: KvCopy) -> None:
        """Leave a copy of the blocks from `first` on."""
        with self._lock:
            self._copies.setdefault(request_id, {})[first] = copy

    def take(self, request_id: int, first: int) -> KvCopy | None:
        """Fetch a copy and forget it; None when nobody left one."""
        with self._lock:
            return self._copies.get(request_id, {}).pop(first, None)

    def drop(self, request_id: int) -> None:
        """Its request has ended or lives elsewhere: forget what nobody fetched."""
        with self._lock:
            self._copies.pop(request_id, None)
