"""What every route shares, and how a call that generates begins and ends."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.types import Scope

from headway.server.answers import Completion, Usage
from headway.server.bodies import ChatBody, GenerateBody
from headway.server.choices import Choice, Delta
from headway.server.decoding import BodyDecoder
from headway.server.disconnects import unless_gone
from headway.server.errors import invalid
from headway.server.generation import Generation, admit, generate
from headway.server.limits import read_body
from headway.server.promises import Terms, terms_of
from headway.server.prompts import PromptReader
from headway.server.settings import Settings
from headway.server.sse import EventStream, event
from headway.server.stream import Gateway
from headway.server.validation import Asked, asked, check_model

Body = TypeVar("Body", bound=msgspec.Struct)
Generating = TypeVar("Generating", bound=GenerateBody)
REQUEST_ID = "headway.request_id"
IGNORED = "headway.ignored"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """A gateway with everything around it that an HTTP call needs."""

    gateway: Gateway
    reader: PromptReader
    settings: Settings
    metrics: Callable[[], bytes]
    chat_stops: tuple[str, ...] = ()  # texts that end a turn, where the model has no token for it
    decoder: BodyDecoder = field(default_factory=BodyDecoder)
    session_key: bytes = field(default_factory=lambda: secrets.token_bytes(16), repr=False)

    async def body(self, request: Request, kind: type[Body]) -> Body:
        """Read and decode the body.

        Raises:
            ApiError: 4xx.
            ClientGoneError: the client left.
        """
        data = await read_body(request.scope, request.receive, self.settings)
        body, ignored = self.decoder.decode(data, kind)
        if ignored:
            request.scope[IGNORED] = self.decoder.warn(ignored)
        return body

    async def open(self, request: Request, kind: type[Generating], prefix: str) -> Call[Generating]:
        """Read a call that generates and check all but its prompt.

        Raises:
            ApiError: 4xx.
        """
        body = await self.body(request, kind)
        model = self.gateway.model
        check_model(body.model, model)
        wanted = asked(body, model, self.settings)
        if self.chat_stops and isinstance(body, ChatBody):
            wanted = replace(wanted, stops=wanted.stops + self.chat_stops)
        terms = terms_of(body, request.headers, self.settings.slo, self.session_key)
        return Call(self, request, body, wanted, terms, prefix + request.scope[REQUEST_ID])


@dataclass(slots=True)
class Call(Generic[Generating]):
    """One call that generates, from its body to its end."""

    service: Service
    request: Request
    body: Generating
    wanted: Asked
    terms: Terms
    id: str
    created: int = field(default_factory=lambda: int(time.time()))
    _began: float = field(default_factory=time.monotonic)
    _generation: Generation | None = None

    @property
    def model(self) -> str:
        """The served model's name."""
        return self.service.gateway.model.name

    def admit(self, prompts: int) -> None:
        """Ask whether so many prompts would be taken, before anything is made of them.

        Raises:
            ApiError: 400 for too many choices; 503, and when to come back.
        """
        most, choices = self.service.settings.most_choices, prompts * self.wanted.n
        if choices > most:
            raise invalid("n", f"{prompts} prompts with n {self.wanted.n}; at most {most} answers.")
        admit(self.service.gateway, choices, self.terms.tenant)

    async def generate(self, prompts: list[list[int]]) -> Generation:
        """Submit the prompts.

        Raises:
            ApiError: 503, and when to come back.
        """
        service = self.service
        self._generation = await generate(
            service.gateway, service.reader.tokenizer, prompts, self.wanted, self.terms
        )
        return self._generation

    async def whole(self, generation: Generation) -> list[list[Delta]]:
        """Wait for all answers: their deltas, by choice.

        Raises:
            ApiError: a stream ended otherwise than finished.
            ClientGoneError: the client left.
        """
        parts: list[list[Delta]] = [[] for _ in generation.choices]

        async def collect() -> None:
            async for choice, delta in generation.deltas():
                parts[choice.index].append(delta)

        try:
            await unless_gone(self.request.receive, collect())
        finally:
            generation.abort()
            self.log_end(self.request.scope)
        return parts

    def stream(
        self, generation: Generation, encode: Callable[[Choice, Delta], bytes], head: bytes = b""
    ) -> EventStream:
        """The answer that sends each delta as it comes."""
        return EventStream(
            generation,
            encode,
            head=head,
            tail=lambda: self._usage_chunk(generation),
            most_unread=self.service.settings.most_unread_pieces,
            on_end=self.log_end,
        )

    def usage_of_chunk(self, generation: Generation) -> Usage | UnsetType | None:
        """The `usage` of a chunk with text: absent unless asked for, null unless continuous."""
        if self.wanted.continuous_usage:
            return generation.usage
        return None if self.wanted.include_usage else UNSET

    def log_end(self, scope: Scope) -> None:
        """One line a call: never a prompt, never an answer."""
        usage = self._generation.usage if self._generation else None
        _log.info(
            "%s %s tenant=%s prompt=%d cached=%d output=%d choices=%d %.0f ms%s",
            scope["path"],
            self.id,
            ascii(self.terms.tenant),
            usage.prompt_tokens if usage else 0,
            usage.prompt_tokens_details.cached_tokens if usage else 0,
            usage.completion_tokens if usage else 0,
            len(self._generation.choices) if self._generation else 0,
            (time.monotonic() - self._began) * 1e3,
            f" {scope['headway.outcome']}" if "headway.outcome" in scope else "",
        )

    def _usage_chunk(self, generation: Generation) -> bytes:
        if not self.wanted.include_usage:
            return b""
        kind = "chat.completion.chunk" if isinstance(self.body, ChatBody) else "text_completion"
        chunk = Completion(self.id, self.created, self.model, [], generation.usage, kind)
        return event(msgspec.json.encode(chunk))
