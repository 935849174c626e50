"""uvicorn's HTTP/1.1 connection with guards that it lacks: time limits, a cap, and errors as JSON.

uvicorn 0.54 waits for ever for a request's header, and for ever for a client that stops reading what it is sent.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from headway.server.errors import ApiError, error_response
from headway.server.sse import CUT


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one connection, and all of them, may cost."""

    most_connections: int = 4096
    most_header_bytes: int = 32 * 1024  # request line and headers together
    header_timeout_s: float = (
        10.0  # from the connection, or a request's first byte, to its header's end
    )
    keep_alive_s: float = 10.0  # an idle connection between two requests
    write_stall_s: float = 30.0  # a full socket that nobody reads


class GuardedConnection(H11Protocol):
    """One connection. Subclassed with its limits by `listener.listen`."""

    limits = ConnectionLimits()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._inner: ASGIApp = self.app
        self.app = self._with_cut
        self._header_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    async def _with_cut(self, scope: Scope, receive: Receive, send: Send) -> None:
        # h11 measures a header only while it is incomplete; what comes in one piece is measured here.
        size = len(scope["raw_path"]) + len(scope["query_string"])
        size += sum(len(name) + len(value) + 4 for name, value in scope["headers"])
        if size > self.limits.most_header_bytes:
            await error_response(self._header_too_long())(scope, receive, send)
            return
        scope.setdefault("extensions", {})[CUT] = self.transport.abort
        await self._inner(scope, receive, send)

    # -- asyncio.Protocol ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.most_connections:
            error = ApiError(
                503,
                f"This server has its {self.limits.most_connections} connections: retry later.",
                code="overloaded",
                headers={"retry-after": "1"},
            )
            self._refuse(error)
            return
        self._expect_header()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.conn.their_state is not h11.IDLE:
            self._clear("_header_timer")
        elif self._header_timer is None and self.conn.trailing_data[0]:
            self._expect_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear("_header_timer")
        self._clear("_stall_timer")
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._abort_later()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._clear("_stall_timer")

    # -- uvicorn -------------------------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_later()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._abort_later()

    def shutdown(self) -> None:
        super().shutdown()
        if self.transport.is_closing():
            self._abort_later()

    def send_400_response(self, msg: str) -> None:
        """Called while h11's complaint is being handled: it knows the better status."""
        complaint = sys.exception()
        if getattr(complaint, "error_status_hint", 400) == 431:
            self._refuse(self._header_too_long())
            return
        said = "The request is not HTTP/1.1 as it should be."
        self._refuse(ApiError(400, said, code="invalid_http"))

    # -- guards --------------------------------------------------------------------------------------------------

    def _expect_header(self) -> None:
        self._header_timer = self.loop.call_later(
            self.limits.header_timeout_s, self._header_is_late
        )

    def _header_is_late(self) -> None:
        self._header_timer = None
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            return
        if not self.conn.trailing_data[0]:
            self._close()  # it never said anything
            return
        said = f"The request's header did not arrive within {self.limits.header_timeout_s:g} s."
        self._refuse(ApiError(408, said, code="header_timeout"))

    def _header_too_long(self) -> ApiError:
        most = self.limits.most_header_bytes
        return ApiError(
            431,
            f"The request's header is longer than {most} bytes: shorten it.",
            code="header_too_long",
            headers={"connection": "close"},
        )

    def _refuse(self, error: ApiError) -> None:
        """Answer without a request, if no answer has begun, and close."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            phrase = HTTPStatus(error.status).phrase
            headers = {**error.headers, "connection": "close"}
            head = [
                f"HTTP/1.1 {error.status} {phrase}",
                "content-type: application/json",
                f"content-length: {len(error.encoded)}",
                *(f"{name}: {value}" for name, value in headers.items()),
            ]
            self.transport.write("\r\n".join([*head, "", ""]).encode() + error.encoded)
        self._close()

    def _close(self) -> None:
        self.transport.close()
        self._abort_later()

    def _abort_later(self) -> None:
        """Closing waits for the client to read what is buffered; this bounds the wait."""
        if self._stall_timer is None:
            self._stall_timer = self.loop.call_later(
                self.limits.write_stall_s, self.transport.abort
            )

    def _clear(self, timer: str) -> None:
        handle: asyncio.TimerHandle | None = getattr(self, timer)
        if handle is not None:
            handle.cancel()
            setattr(self, timer, None)
