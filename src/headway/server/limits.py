"""Reading a body: not too long, not too slowly, and not from two lengths at once."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope

from headway.server.disconnects import ClientGoneError
from headway.server.errors import ApiError
from headway.server.settings import Settings

_CLOSE = {"connection": "close"}


async def read_body(scope: Scope, receive: Receive, settings: Settings) -> bytes:
    """Read the body of a request.

    Raises:
        ApiError: 413 past the limit, without reading on; 408 past the time; 400 for two lengths.
        ClientGoneError: the client left.
    """
    most = settings.most_body_bytes
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    if lengths and any(name == b"transfer-encoding" for name, _ in scope["headers"]):
        raise ApiError(
            400, "A request has either a Content-Length or a Transfer-Encoding.", headers=_CLOSE
        )
    if lengths and (len(lengths[0]) > 18 or int(lengths[0]) > most):
        raise _too_large(most)
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            return await _read(receive, most)
    except TimeoutError:
        raise ApiError(
            408,
            f"The body did not arrive within {settings.body_timeout_s:g} s.",
            code="body_timeout",
            headers=_CLOSE,
        ) from None


async def _read(receive: Receive, most: int) -> bytes:
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise _too_large(most)
        more = message.get("more_body", False)
    return b"".join(parts)


def _too_large(most: int) -> ApiError:
    return ApiError(
        413,
        f"The body is longer than {most} bytes: shorten the prompt.",
        code="request_too_large",
        headers=_CLOSE,
    )
