"""Keys: every path wants one but for those that are named here."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from headway.server.errors import ApiError, error_response

OPEN_PATHS = frozenset({"/livez", "/readyz", "/health"})


class KeyGate:
    """Lets calls with a known bearer key through, and all calls to open paths.

    The path is the one that routing will use, as it came over the wire; neither the Host header nor a
    rebuilt URL has a say. Keys are kept and compared as hashes, each against all, so that time tells nothing.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[str], open_paths: Collection[str]) -> None:
        self._app, self._open = app, frozenset(open_paths)
        self._digests = [_digest(key.encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._digests or scope["path"] in self._open or self._known(scope):
            await self._app(scope, receive, send)
            return
        error = ApiError(
            401,
            "This server wants a key: send the header Authorization: Bearer KEY.",
            code="invalid_api_key",
            headers={"www-authenticate": "Bearer", "connection": "close"},
        )
        await error_response(error)(scope, receive, send)

    def _known(self, scope: Scope) -> bool:
        sent = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(sent) != 1:
            return False
        kind, _, key = sent[0].partition(b" ")
        digest = _digest(key.strip())
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(matches) and kind.lower() == b"bearer"


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
