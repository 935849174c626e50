"""POST /v1/chat/completions."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from headway.server.answers import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatLogprobs,
    ChatMessage,
)
from headway.server.bodies import ChatBody
from headway.server.choices import Choice, Delta
from headway.server.generation import Generation
from headway.server.logprobs import rows
from headway.server.service import Call, Service
from headway.server.sse import EventStream, event

_ROLE = "assistant"


@dataclass(frozen=True, slots=True)
class Chat:
    """Continues conversations of texts."""

    service: Service

    async def post(self, request: Request) -> Response | EventStream:
        """Answer a call."""
        reader = self.service.reader
        call = await self.service.open(request, ChatBody, "chatcmpl-")
        messages = reader.conversation(call.body.messages)
        call.admit(1)
        ids = await reader.read_conversation(
            messages,
            add_generation_prompt=call.body.add_generation_prompt is not False,
            variables=call.body.chat_template_kwargs,
        )
        generation = await call.generate([ids])
        turns = _Turns(call, generation)
        if call.wanted.stream:
            return call.stream(generation, turns.chunk, turns.roles())
        parts = await call.whole(generation)
        answer = ChatCompletion(
            call.id,
            call.created,
            call.model,
            [turns.answer(choice, parts[choice.index]) for choice in generation.choices],
            generation.usage,
        )
        return Response(msgspec.json.encode(answer), media_type="application/json")


class _Turns:
    """Puts deltas into chat's shapes."""

    def __init__(self, call: Call[ChatBody], generation: Generation) -> None:
        self._call, self._generation = call, generation
        self._tokenizer = call.service.reader.tokenizer
        self._encoder = msgspec.json.Encoder()

    def roles(self) -> bytes:
        """The first event of each choice: who speaks."""
        empty = ChatDelta(_ROLE, "")
        return b"".join(
            self._event(ChatChunkChoice(choice.index, empty)) for choice in self._generation.choices
        )

    def chunk(self, choice: Choice, delta: Delta) -> bytes:
        """One event. The last piece brings an empty delta when it has no text."""
        ended = delta.finish_reason is not None
        content = UNSET if ended and not delta.text else delta.text
        return self._event(
            ChatChunkChoice(
                choice.index,
                ChatDelta(content=content),
                self._logprobs([delta]),
                delta.finish_reason,
                delta.stop_reason if ended else UNSET,
            )
        )

    def answer(self, choice: Choice, parts: list[Delta]) -> ChatChoice:
        """One whole answer."""
        text = "".join(part.text for part in parts)
        return ChatChoice(
            choice.index,
            ChatMessage(_ROLE, text),
            self._logprobs(parts),
            parts[-1].finish_reason,
            parts[-1].stop_reason,
        )

    def _event(self, choice: ChatChunkChoice) -> bytes:
        call = self._call
        usage = call.usage_of_chunk(self._generation)
        chunk = ChatChunk(call.id, call.created, call.model, [choice], usage)
        return event(self._encoder.encode(chunk))

    def _logprobs(self, parts: list[Delta]) -> ChatLogprobs | None:
        if self._call.wanted.sampling.logprobs is None:
            return None
        found = [rows(self._tokenizer, part.ids, part.logprobs) for part in parts if part.ids]
        return ChatLogprobs([row for one in found for row in one.content]) if found else None
