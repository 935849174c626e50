"""The ASGI application: which path leads where, and what stands around all of them."""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headway.checkpoint.chat_template import ChatTemplate
from headway.checkpoint.prompt_ids import PromptIds
from headway.checkpoint.tokenizer import Tokenizer
from headway.server.auth import OPEN_PATHS, KeyGate
from headway.server.chat import Chat
from headway.server.completions import Completions
from headway.server.envelope import Counts, Envelope
from headway.server.errors import ApiError, answer_error, error_response
from headway.server.health import Health
from headway.server.prompts import PromptReader, longest_token_bytes
from headway.server.service import Service
from headway.server.settings import Settings
from headway.server.stream import Gateway
from headway.server.tokenize import Tokenize


def create_app(
    gateway: Gateway,
    tokenizer: Tokenizer,
    template: ChatTemplate | None = None,
    settings: Settings | None = None,
    metrics: Callable[[], bytes] = lambda: b"",
) -> Starlette:
    """Put the server together. `app.state.counts` says how calls ended; `metrics` is asked on each scrape."""
    settings = settings or Settings()
    chats = PromptIds(tokenizer, template) if template else None
    reader = PromptReader(tokenizer, chats, gateway.model, settings, longest_token_bytes(tokenizer))
    stops = template.stop_strings if template else ()
    service = Service(gateway, reader, settings, metrics, chat_stops=stops)
    counts = Counts()
    open_paths = OPEN_PATHS | ({"/metrics"} if settings.open_metrics else set())
    app = Starlette(
        routes=_routes(service),
        middleware=[
            Middleware(Envelope, counts, announce_ignored=settings.announce_ignored),
            Middleware(KeyGate, settings.api_keys, open_paths),
        ],
        exception_handlers={HTTPException: _no_such_route, ApiError: answer_error},
    )
    app.router.redirect_slashes = False  # a redirect would be built from the Host header
    app.state.counts = counts
    return app


def _routes(service: Service) -> list[Route]:
    health, tokens = Health(service), Tokenize(service)
    return [
        Route("/v1/completions", Completions(service).post, methods=["POST"]),
        Route("/v1/chat/completions", Chat(service).post, methods=["POST"]),
        Route("/v1/models", health.models),
        Route("/v1/models/{name:path}", health.model),
        Route("/tokenize", tokens.tokenize, methods=["POST"]),
        Route("/detokenize", tokens.detokenize, methods=["POST"]),
        Route("/health", health.ready),
        Route("/readyz", health.ready),
        Route("/livez", health.alive),
        Route("/load", health.load),
        Route("/version", health.version),
        Route("/metrics", health.metrics),
    ]


async def _no_such_route(_: Request, error: Exception) -> Response:
    """404 and 405, in the shape of every other error."""
    assert isinstance(error, HTTPException)
    said = {
        404: "There is nothing at this path: see /v1/models and the documentation.",
        405: "This path does not answer that method.",
    }.get(error.status_code, "The request cannot be served.")
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
    headers = dict(error.headers or {})
    return error_response(ApiError(error.status_code, said, code=code, headers=headers))
