"""Server-sent events: one per computed step, written as fast as the client reads and no faster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing

from starlette.types import Receive, Scope, Send

from headway.server.choices import Choice, Delta
from headway.server.disconnects import ClientGoneError, unless_gone
from headway.server.errors import ApiError, error_response
from headway.server.generation import Generation

CUT = "headway.cut"  # extension of the scope: a function that drops the connection at once
DONE = b"data: [DONE]\n\n"
_MOST_JOINED_BYTES = 32 * 1024
_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
_log = logging.getLogger(__name__)


def event(data: bytes) -> bytes:
    """Frame one event. JSON has no raw newline, so one line is enough."""
    return b"data: " + data + b"\n\n"


class EventStream:
    """The answer of a streaming call, an ASGI application.

    Headers wait for the first piece: whatever ends a call before it gets an honest status. Events that are ready
    together leave in one write, each an event of its own. The generation is aborted when the client leaves, or
    reads so slowly that `most_unread` pieces wait behind a full socket.
    """

    def __init__(
        self,
        generation: Generation,
        encode: Callable[[Choice, Delta], bytes],
        *,
        head: bytes,
        tail: Callable[[], bytes],
        most_unread: int,
        on_end: Callable[[Scope], None],
    ) -> None:
        self._generation, self._encode = generation, encode
        self._head, self._tail = head, tail
        self._most_unread, self._on_end = most_unread, on_end
        self._started = self._sending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await unless_gone(receive, self._write(scope, receive, send))
        except ClientGoneError:
            scope["headway.outcome"] = "cancelled"
        finally:
            self._generation.abort()
            self._on_end(scope)

    async def _write(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._watch(scope, asyncio.current_task())
        ready = bytearray(self._head)
        try:
            async with aclosing(self._generation.deltas()) as deltas:
                async for choice, delta in deltas:
                    ready += self._encode(choice, delta)
                    if self._generation.more and len(ready) < _MOST_JOINED_BYTES:
                        continue
                    await self._send(send, bytes(ready))
                    ready.clear()
            ready += self._tail()
        except Exception as error:  # noqa: BLE001 - whatever it was, the client is told
            told = _told(error)
            if not self._started:
                await error_response(told)(scope, receive, send)
                return
            scope["headway.outcome"] = "failed"
            ready += event(told.encoded)
        await self._send(send, bytes(ready) + DONE, more=False)

    async def _send(self, send: Send, body: bytes, *, more: bool = True) -> None:
        self._sending = True
        if not self._started:
            self._started = True
            await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
        await send({"type": "http.response.body", "body": body, "more_body": more})
        self._sending = False

    def _watch(self, scope: Scope, writer: asyncio.Task[None] | None) -> None:
        """Look once a second whether the client keeps up; ends with the writer."""
        if writer is None or writer.done():
            return
        if self._sending and self._generation.unread > self._most_unread:
            _log.warning("cut off a reader that was %d pieces behind", self._generation.unread)
            cut = (scope.get("extensions") or {}).get(CUT)
            if cut is not None:
                cut()  # the disconnect then ends the writer
            else:
                writer.cancel()
            return
        asyncio.get_running_loop().call_later(1.0, self._watch, scope, writer)


def _told(error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    _log.error("a stream broke off", exc_info=error)
    return ApiError(500, "The server failed to make this answer.", code="internal_error")
