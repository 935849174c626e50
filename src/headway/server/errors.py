"""What a client is told when a call cannot be served, in the shape that OpenAI's clients read."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headway.core.fleet import ABORTED, FAILED_STEP, REJECTED, RETURNED, SHED
from headway.server.stream import Overloaded

INVALID, DENIED, SERVER = "invalid_request_error", "authentication_error", "server_error"


class ErrorDetail(msgspec.Struct):
    """The inside of an error body. `code` is always a string or null, never a number."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(msgspec.Struct):
    """The body of every answer that is not a success."""

    error: ErrorDetail


class ApiError(Exception):
    """A call ends with this status. The message is one sentence and quotes no more than names and numbers."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})
        kind = DENIED if status == 401 else SERVER if status >= 500 else INVALID
        self.body = ErrorBody(ErrorDetail(message, kind, param, code))

    @property
    def encoded(self) -> bytes:
        """The body as JSON."""
        return msgspec.json.encode(self.body)


def invalid(param: str | None, message: str, code: str | None = None) -> ApiError:
    """The client asked for something impossible: 400."""
    return ApiError(400, message, param=param, code=code)


def too_long(tokens: str, context_tokens: int) -> ApiError:
    """The prompt does not fit. `tokens` says how long it is, as exactly as is known."""
    return invalid(
        "prompt",
        f"This model's maximum context length is {context_tokens} tokens, of which at least one is for output, "
        f"but the prompt has {tokens}: shorten it.",
        "context_length_exceeded",
    )


def overloaded(state: Overloaded) -> ApiError:
    """Admission said no: 503, and when to come back."""
    headers = {"retry-after": str(max(1, state.retry_after_s))}
    if state.draining:
        headers["connection"] = "close"
    return ApiError(503, _sentence(state.reason), code="overloaded", headers=headers)


def not_ready(reason: str) -> ApiError:
    """The server does not take requests now: 503, with the reason."""
    return ApiError(503, _sentence(reason), code="not_ready", headers={"retry-after": "1"})


def ended_early(outcome: str) -> ApiError:
    """A stream ended otherwise than finished; `outcome` as `core.fleet` names them, perhaps with a reason."""
    kind, _, reason = outcome.partition(":")
    if kind == FAILED_STEP:
        return ApiError(500, "The step that computed this request failed.", code="step_failed")
    said = {
        SHED: "The server gave this request up: it could no longer keep its promise.",
        REJECTED: _sentence(reason.strip()) or "The server cannot take this request now.",
        RETURNED: "The instance that served this request stopped.",
        ABORTED: _sentence(reason.strip()),
    }.get(kind) or "The server ended this request."
    return ApiError(503, said, code="overloaded", headers={"retry-after": "1"})


def error_response(error: ApiError) -> Response:
    """The answer that carries an error."""
    return Response(
        error.encoded, error.status, media_type="application/json", headers=error.headers
    )


def _sentence(reason: str) -> str:
    """Reasons come as clauses."""
    return reason[:1].upper() + reason[1:] + ("" if reason[-1:] in {"", "."} else ".")


async def answer_error(_: Request, error: Exception) -> Response:
    """Starlette's exception handler for our errors."""
    assert isinstance(error, ApiError)
    return error_response(error)
