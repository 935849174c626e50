"""A conversation with any OpenAI-compatible server, over the standard library's HTTP client."""

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from headway.errors import HeadwayError, OptionError

CONNECT_S = 10.0
SILENCE_S = 600.0  # a long prompt on a slow machine says nothing for a while


class ServerSaidNoError(HeadwayError):
    """The server refused a call, or is not there. The message has its reason."""


@dataclass
class Conversation:
    """Messages so far, and where they go. A failed or interrupted turn leaves no trace."""

    url: str
    model: str = ""
    api_key: str | None = None
    options: dict[str, Any] = field(default_factory=dict)  # of every call: max_tokens, …
    system: str | None = None
    messages: list[dict[str, str]] = field(default_factory=list)

    def reset(self) -> None:
        """Forget all turns."""
        self.messages.clear()

    def first_model(self) -> str:
        """Ask the server what it serves.

        Raises:
            ServerSaidNoError: it does not say.
        """
        connection, path = self._connect("/v1/models")
        with _Closing(connection):
            connection.request("GET", path, headers=self._headers())
            listed = json.loads(_read(connection.getresponse()))
        models = listed.get("data") or []
        if not models:
            raise ServerSaidNoError(f"{self.url} serves no model")
        return str(models[0]["id"])

    def say(self, text: str) -> Iterator[str]:
        """Send a turn and yield the answer as it comes.

        Raises:
            ServerSaidNoError: refused, or ended with an error.
        """
        turn = [*self.messages, {"role": "user", "content": text}]
        system = [{"role": "system", "content": self.system}] if self.system else []
        body = {
            "model": self.model,
            "messages": [*system, *turn],
            "stream": True,
            **self.options,
        }
        connection, path = self._connect("/v1/chat/completions")
        answer: list[str] = []
        with _Closing(connection):
            connection.request("POST", path, json.dumps(body), self._headers())
            reply = connection.getresponse()
            if reply.status != http.client.OK:
                raise ServerSaidNoError(_reason(_read(reply), reply.status))
            for piece in _pieces(reply):
                answer.append(piece)
                yield piece
        self.messages = [*turn, {"role": "assistant", "content": "".join(answer)}]

    def _headers(self) -> dict[str, str]:
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return {"Content-Type": "application/json", **key}

    def _connect(self, path: str) -> tuple[http.client.HTTPConnection, str]:
        parts = urlsplit(self.url if "//" in self.url else f"http://{self.url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise OptionError(f"{self.url} is no address: write http://HOST:PORT")
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(parts.hostname, parts.port, timeout=CONNECT_S)
        try:
            connection.connect()
        except OSError as error:
            raise ServerSaidNoError(
                f"nobody answers at {self.url} ({error}): start headway serve, or give another --url"
            ) from error
        connection.sock.settimeout(SILENCE_S)
        return connection, parts.path.rstrip("/").removesuffix("/v1") + path


class _Closing:
    """Closes a connection, and turns what goes wrong on it into one sentence."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._connection.close()
        if isinstance(error, OSError | http.client.HTTPException | json.JSONDecodeError):
            raise ServerSaidNoError(
                f"the server broke off: {type(error).__name__} {error}".rstrip()
            ) from error


def _pieces(reply: http.client.HTTPResponse) -> Iterator[str]:
    """Yield the texts of a stream of server-sent events."""
    for raw in reply:
        data = raw.strip().removeprefix(b"data:").strip() if raw.startswith(b"data:") else b""
        if not data:
            continue
        if data == b"[DONE]":
            return
        event = json.loads(data)
        if "error" in event:
            raise ServerSaidNoError(_reason(data, 0))
        for choice in event.get("choices") or ():
            text = (choice.get("delta") or {}).get("content")
            if text:
                yield text
    raise ServerSaidNoError("the server broke off before the answer was complete")


def _read(reply: http.client.HTTPResponse) -> bytes:
    data = reply.read(1 << 20)
    if reply.status >= http.client.BAD_REQUEST:
        raise ServerSaidNoError(_reason(data, reply.status))
    return data


def _reason(data: bytes, status: int) -> str:
    try:
        error = json.loads(data)["error"]
        return f"the server said no: {error['message']}"
    except (ValueError, KeyError, TypeError):
        return f"the server answered with status {status}"
