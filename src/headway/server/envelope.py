"""Around every call: a request id, a count, and an answer even when our own code fails."""

from __future__ import annotations

import logging
import re
import secrets
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headway.server.disconnects import ClientGoneError
from headway.server.errors import ApiError, error_response
from headway.server.service import IGNORED, REQUEST_ID

_PLAIN_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Counts:
    """How POST calls ended; `received` is the sum of the others once nothing is in flight."""

    received: int = 0
    ok: int = 0
    client_error: int = 0
    shed: int = 0
    cancelled: int = 0
    failed: int = 0

    def count(self, status: int, outcome: str) -> None:
        """Count an end: by what became of it, else by its status."""
        if outcome == "cancelled" or status in {0, 499}:
            self.cancelled += 1
        elif outcome == "failed":
            self.failed += 1
        elif status == 503:
            self.shed += 1
        elif status >= 500:
            self.failed += 1
        elif status >= 400:
            self.client_error += 1
        else:
            self.ok += 1


class Envelope:
    """The outermost layer. Echoes `X-Request-Id` when it is printable ASCII, else makes one."""

    def __init__(self, app: ASGIApp, counts: Counts, *, announce_ignored: bool) -> None:
        self._app, self._counts, self._announce = app, counts, announce_ignored

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request_id = _id_of(scope)
        scope[REQUEST_ID] = request_id.decode()
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", request_id)]
                if self._announce and scope.get(IGNORED):
                    names = ", ".join(scope[IGNORED][:20])
                    headers.append((b"x-headway-ignored", names.encode()))
                message["headers"] = headers
            await send(message)

        counted = scope["method"] == "POST"
        self._counts.received += counted
        try:
            await self._app(scope, receive, sending)
        except ClientGoneError:
            scope["headway.outcome"] = "cancelled"
        except Exception:  # noqa: BLE001 - ours: the client gets one sentence, the log the rest
            _log.exception("call %s failed", scope[REQUEST_ID])
            scope["headway.outcome"] = "failed"
            if not status:
                error = ApiError(500, "The server failed.", code="internal_error")
                await error_response(error)(scope, receive, sending)
        finally:
            if counted:
                self._counts.count(status, scope.get("headway.outcome", ""))


def _id_of(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _PLAIN_ID.fullmatch(value):
            return bytes(value)
    return secrets.token_hex(16).encode()
