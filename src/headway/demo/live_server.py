"""`headway serve` in a process of its own, from ready to drained."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headway.errors import HeadwayError

READY_S, DRAIN_S = 120.0, 30.0


class ServerError(HeadwayError):
    """The demo's server did not start."""


@contextmanager
def serving(policy: list[str], run_log: Path) -> Iterator[str]:
    """Serve the embedded model under `policy` (flags of `headway serve`); yields the address.

    Raises:
        ServerError: it is not ready in two minutes, or ended before; holds the last line it said.
    """
    port = _free_port()
    said = run_log.with_suffix(".serve.log")
    command = [
        sys.executable,
        "-m",
        "headway",
        "serve",
        "--port",
        str(port),
        "--run-log",
        str(run_log),
    ]
    with said.open("wb") as log:
        server = subprocess.Popen(  # noqa: S603 - our own program
            [*command, *policy], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(server, address, said)
            yield address
        finally:
            server.terminate()
            try:
                server.wait(DRAIN_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait(server: subprocess.Popen[bytes], address: str, said: Path) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{address}/readyz", timeout=2):  # noqa: S310 - http it is
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    lines = said.read_text("utf-8", errors="replace").strip().splitlines()
    last = lines[-1] if lines else "nothing"
    raise ServerError(f"the server is not ready; it last said: {last} (all of it: {said})")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
