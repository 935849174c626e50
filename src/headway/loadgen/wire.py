"""What an OpenAI-compatible server says over the wire, as far as a load generator listens."""

from __future__ import annotations

from typing import Any

import msgspec

DONE = b"[DONE]"


class CachedTokens(msgspec.Struct):
    """Where a server says how much of the prompt it had already."""

    cached_tokens: int | None = None


class Usage(msgspec.Struct):
    """Tokens as the server counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: CachedTokens | None = None

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that came from a prefix cache; 0 when the server does not say."""
        details = self.prompt_tokens_details
        return 0 if details is None else details.cached_tokens or 0


class Delta(msgspec.Struct):
    """A piece of a chat answer; reasoning and tool calls are output tokens too."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[Any] | None = None

    @property
    def text(self) -> str:
        """Everything that was generated, whatever it is called."""
        said = (self.content or "") + (self.reasoning_content or self.reasoning or "")
        return said or ("\N{HORIZONTAL ELLIPSIS}" if self.tool_calls else "")


class Choice(msgspec.Struct):
    """`text` of completions, `delta` of a chat stream, `message` of a chat answer in one piece."""

    text: str | None = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None

    @property
    def said(self) -> str:
        """The text of this piece."""
        part = self.delta or self.message
        return (self.text or "") if part is None else part.text

    @property
    def opens(self) -> bool:
        """Does it only announce who speaks? Then no token has been generated yet."""
        return self.delta is not None and self.delta.role is not None


class Chunk(msgspec.Struct):
    """One event of a stream, or a whole answer."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: Any = None


_chunks = msgspec.json.Decoder(Chunk)


def read_chunk(data: bytes) -> Chunk:
    """Decode one event.

    Raises:
        ValueError: no JSON, or not of this shape.
    """
    try:
        return _chunks.decode(data)
    except msgspec.MsgspecError as error:
        shown = data[:80].decode("utf-8", "replace")
        raise ValueError(f"the server sent {shown!r}, which is no chunk: {error}") from error


def sentence_of(body: bytes) -> str:
    """What an error body says: the message of OpenAI's shape, else its beginning."""
    try:
        told = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return body[:200].decode("utf-8", "replace").strip()
    return message_in(told)


def message_in(told: Any) -> str:
    """The message of a decoded error, whatever its shape."""
    for _ in range(3):
        if not isinstance(told, dict):
            break
        told = told.get("error") or told.get("message") or told.get("detail") or str(told)
    return str(told)[:300]


class EventSplitter:
    """Cuts a byte stream into the data of its server-sent events, one `data:` line each.

    Comments (pings) and other fields are dropped.
    """

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, block: bytes) -> list[bytes]:
        """Take what arrived; return the events that are complete now."""
        lines = (self._rest + block).split(b"\n")
        self._rest = lines.pop()
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]
