"""What the server says of itself once a second: its queue, what runs, and how full its KV memory is.

Reads the Prometheus text of `/metrics` under the names of vLLM (which headway shares), SGLang, llama.cpp and
TGI. Counts are summed over label sets (several engines behind one address), usage is the largest.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import aiohttp

EVERY_S = 1.0

SERIES = {
    "running": (
        "vllm:num_requests_running",
        "sglang:num_running_reqs",
        "llamacpp:requests_processing",
        "tgi_batch_current_size",
    ),
    "waiting": (
        "vllm:num_requests_waiting",
        "sglang:num_queue_reqs",
        "llamacpp:requests_deferred",
        "tgi_queue_size",
    ),
    "kv_usage": (
        "vllm:kv_cache_usage_perc",
        "vllm:gpu_cache_usage_perc",
        "sglang:token_usage",
        "llamacpp:kv_cache_usage_ratio",
    ),
}

_LINES = {
    name: [
        re.compile(rf"^{re.escape(one)}(?:\{{[^}}]*\}})?\s+(\S+)".encode(), re.MULTILINE)
        for one in names
    ]
    for name, names in SERIES.items()
}
_LIMIT = aiohttp.ClientTimeout(total=5)


def read_metrics(text: bytes) -> dict[str, float]:
    """`running`, `waiting` and `kv_usage` (0 … 1), as far as the text has them."""
    found: dict[str, float] = {}
    for name, patterns in _LINES.items():
        for pattern in patterns:
            values = [float(value) for value in pattern.findall(text)]
            if values:
                found[name] = max(values) if name == "kv_usage" else sum(values)
                break
    return found


class ServerWatch:
    """Polls until cancelled; gives up quietly when the server has no such page."""

    def __init__(self, session: aiohttp.ClientSession, root: str, now: Callable[[], int]) -> None:
        self._session = session
        self._url = f"{root}/metrics"
        self._now = now
        self.samples: list[dict[str, float]] = []

    async def run(self) -> None:
        """Take a sample every second."""
        publishes = True
        while publishes:
            publishes = await self._sample()
            await asyncio.sleep(EVERY_S)

    async def _sample(self) -> bool:
        asked_s = self._now() / 1e9
        try:
            async with self._session.get(self._url, timeout=_LIMIT) as response:
                if response.status != 200:
                    return False
                found = read_metrics(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return bool(
                self.samples
            )  # a busy server may miss one; one that never answered has none
        if found:
            self.samples.append({"t_s": round(asked_s, 3), **found})
        return bool(found)

    def series(self) -> dict[str, list[Any]]:
        """By name, parallel to `t_s`; None where a sample lacks it. Empty when there were none."""
        names = ["t_s", *(name for name in SERIES if any(name in one for one in self.samples))]
        return (
            {name: [one.get(name) for one in self.samples] for name in names}
            if self.samples
            else {}
        )
