"""Where executors of one process leave KV for each other: prefill to decode, migration."""

from __future__ import annotations

from threading import Lock

from headway.engine.kv_pool import KvCopy


class KvExchange:
    """Copies by request id, each taken once. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._copies: dict[int, KvCopy] = {}

    def put(self, request_id: int, copy: KvCopy) -> None:
        """Leave a copy."""
        with self._lock:
            self._copies[request_id] = copy

    def take(self, request_id: int) -> KvCopy | None:
        """Fetch a copy and forget it; None when nobody left one."""
        with self._lock:
            return self._copies.pop(request_id, None)
