"""What the server says of itself: alive, ready, load, version, models, metrics."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headway.server.answers import ModelCard, ModelList
from headway.server.errors import error_response, not_ready
from headway.server.service import Service
from headway.server.validation import check_model

_TEXT = "text/plain; version=0.0.4; charset=utf-8"  # what Prometheus asks for


def _json(answer: object) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")


@dataclass(frozen=True, slots=True)
class Health:
    """Answers without a body to read and without work in the fleet."""

    service: Service

    async def alive(self, _: Request) -> Response:
        """The event loop turns; says nothing of the fleet."""
        return _json({"status": "alive"})

    async def ready(self, _: Request) -> Response:
        """Whether requests are taken: 503 with the reason if not."""
        reason = self.service.gateway.ready
        return error_response(not_ready(reason)) if reason else _json({"status": "ready"})

    async def load(self, _: Request) -> Response:
        """The fleet's load. `server_load` is vLLM's name for all requests inside."""
        load = self.service.gateway.load()
        return _json({"server_load": load.running + load.waiting, **load._asdict()})

    async def version(self, _: Request) -> Response:
        """The version of headway."""
        return _json({"version": version("headway")})

    async def metrics(self, _: Request) -> Response:
        """Whatever the operator's metrics say, in Prometheus' text format."""
        return Response(self.service.metrics(), headers={"content-type": _TEXT})

    async def models(self, _: Request) -> Response:
        """The one model that is served."""
        return _json(ModelList([self._card()]))

    async def model(self, request: Request) -> Response:
        """The same, by name."""
        check_model(request.path_params["name"], self.service.gateway.model)
        return _json(self._card())

    def _card(self) -> ModelCard:
        model = self.service.gateway.model
        return ModelCard(model.name, model.created_s, model.name, model.context_tokens)
