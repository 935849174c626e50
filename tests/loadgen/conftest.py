"""A real server in a process of its own, whose latencies are known and written down."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SERVER = Path(__file__).parents[2] / "bench" / "_fixed_latency_server.py"


@dataclass
class Mock:
    url: str

    def log(self) -> list[dict[str, Any]]:
        """What it did, the warm-up left out."""
        with urllib.request.urlopen(f"{self.url}/log", timeout=10) as answer:  # noqa: S310
            entries: list[dict[str, Any]] = json.load(answer)
        return entries


Start = Callable[..., Mock]


@pytest.fixture
def mock_server() -> Iterator[Start]:
    """Start servers with flags; they end with the test."""
    running = []

    def start(*flags: str) -> Mock:
        process = subprocess.Popen(
            [sys.executable, str(SERVER), *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout is not None
        return Mock(process.stdout.readline().strip())

    yield start
    for process in running:
        process.communicate(timeout=10)
