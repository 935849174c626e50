"""Ask a server through the `openai` package: a stream, with a promise and a tenant of its own.

Usage: python examples/ask_a_server.py [URL]
Without a URL it starts `headway serve --world sim`: a server that computes nothing and takes as long as a GPU would, so
its answers mean nothing. Needs the extra `server` and the package openai; any OpenAI-compatible server will do.
"""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from openai import OpenAI

PROMISE = {"ttft_ms": 300, "tpot_ms": 40}  # servers that know no promises ignore the field


@contextlib.contextmanager
def mock_server() -> Iterator[str]:
    """Serve a simulated model on a free port; yields the address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "headway", "serve", "--world", "sim", "--port", str(port)]
    server = subprocess.Popen(command)
    try:
        while server.poll() is None:
            with contextlib.suppress(OSError, urllib.error.URLError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1).close()
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()  # it finishes what is in flight
        server.wait(30)


def ask(address: str) -> None:
    client = OpenAI(base_url=f"{address}/v1", api_key="none")
    began = time.perf_counter()
    tokens, arrived = 0, []
    with client.chat.completions.create(
        model=client.models.list().data[0].id,
        messages=[{"role": "user", "content": "When is a promise due?"}],
        max_tokens=24,
        stream=True,
        stream_options={"include_usage": True},
        user="acme",
        extra_body={"slo": PROMISE},
    ) as stream:
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                arrived.append(time.perf_counter() - began)
                print(chunk.choices[0].delta.content, end="", flush=True)
            if chunk.usage:
                tokens = chunk.usage.completion_tokens
    first, last = (arrived[0], arrived[-1]) if arrived else (0.0, 0.0)
    print(f"\n{tokens} tokens; the first text after {first:.3f} s, all after {last:.3f} s")


def main() -> None:
    with contextlib.ExitStack() as stack:
        ask(sys.argv[1] if len(sys.argv) > 1 else stack.enter_context(mock_server()))


if __name__ == "__main__":
    main()
