"""`chat` holds a conversation with whatever answers; `doctor` always has an answer."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from headway.cli.bytes_text import byte_count
from headway.cli.chat_client import Conversation, ServerSaidNoError
from headway.cli.program import main
from headway.errors import OptionError


def event(text: str) -> str:
    return "data: " + json.dumps({"choices": [{"delta": {"content": text}}]}) + "\n\n"


DONE = "data: [DONE]\n\n"
ERROR = 'data: {"error": {"message": "out of luck"}}\n\n'


@contextmanager
def answering(*bodies: str, status: int = 200) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that gives these bodies, one a call; yields its address and what it was asked."""
    asked: list[dict[str, Any]] = []
    left = list(bodies)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(json.dumps({"data": [{"id": "m"}]}), 200)

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            asked.append(json.loads(self.rfile.read(length)))
            self._reply(left.pop(0), status)

        def _reply(self, body: str, code: int) -> None:
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def test_turns_are_remembered_until_they_are_reset() -> None:
    one = event("Good ") + event("day") + DONE
    with answering(one, one, one) as (url, asked):
        talk = Conversation(url + "/v1", "m", None, {"max_tokens": 5}, "Be brief")
        assert talk.first_model() == "m"
        assert list(talk.say("Hello")) == ["Good ", "day"]
        list(talk.say("Again"))
        talk.reset()
        list(talk.say("Anew"))
    contents = [[message["content"] for message in body["messages"]] for body in asked]
    assert contents == [
        ["Be brief", "Hello"],
        ["Be brief", "Hello", "Good day", "Again"],
        ["Be brief", "Anew"],
    ]
    assert all(body["stream"] and body["max_tokens"] == 5 for body in asked)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (event("so") + ERROR, 200, "out of luck"),
        (event("so"), 200, "before the answer was complete"),
        ('{"error": {"message": "too long"}}', 400, "too long"),
        ("gateway trouble", 502, "status 502"),
        ("data: {", 200, "broke off"),
    ],
)
def test_a_turn_that_fails_is_said_and_leaves_no_trace(body: str, status: int, said: str) -> None:
    with answering(body, status=status) as (url, _):
        talk = Conversation(url, "m")
        with pytest.raises(ServerSaidNoError, match=said):
            list(talk.say("Hello"))
        assert talk.messages == []


def chat(url: str, text: str) -> subprocess.CompletedProcess[str]:
    source = Path(__file__).parents[2] / "src"
    return subprocess.run(
        [sys.executable, "-m", "headway", "chat", "--url", url],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(source)},
    )


def test_the_verb_reads_lines_and_prints_answers() -> None:
    with answering(event("Good day") + DONE, ERROR) as (url, asked):
        ended = chat(url, "Hello\n\n/reset\n/help\nAgain\n")
    assert ended.returncode == 0
    assert ended.stdout == "Good day\n\n"
    assert "/reset forgets" in ended.stderr
    assert "out of luck" in ended.stderr
    assert len(asked) == 2


def test_nobody_at_the_address_is_one_sentence() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        ended = chat(f"http://127.0.0.1:{free.getsockname()[1]}", "Hello\n")
    assert ended.returncode == 2
    assert "nobody answers" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_doctor_finds_something_to_say_of_everything(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as stopped:
            main(["doctor", "--json", "--port", str(port)])
    found = {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert {"headway", "python", "processor", "memory", "torch", "embedded model"} <= set(found)
    assert found[f"port {port}"]["state"] == "note"
    for finding in found.values():
        assert finding["value"]
        assert bool(finding["fix"]) == (finding["state"] != "ok")
    problems = any(finding["state"] == "problem" for finding in found.values())
    assert stopped.value.code == int(problems)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1GiB", 1 << 30), ("512MiB", 1 << 29), ("2GB", 2 * 10**9), ("1.5k", 1500), ("7", 7)],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert byte_count("--kv-memory", text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GiB", "0", "1XB"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="a size such as"):
        byte_count("--kv-memory", text)
