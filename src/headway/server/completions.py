"""POST /v1/completions."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headway.server.answers import Completion, CompletionChoice, CompletionLogprobs
from headway.server.bodies import CompletionBody
from headway.server.choices import Choice, Delta
from headway.server.generation import Generation
from headway.server.logprobs import columns, joined
from headway.server.prompts import Unread
from headway.server.service import Call, Service
from headway.server.sse import EventStream, event


@dataclass(frozen=True, slots=True)
class Completions:
    """Continues texts, or lists of token ids."""

    service: Service

    async def post(self, request: Request) -> Response | EventStream:
        """Answer a call."""
        reader = self.service.reader
        call = await self.service.open(request, CompletionBody, "cmpl-")
        prompts = reader.split(call.body.prompt)
        call.admit(len(prompts))
        generation = await call.generate([await reader.read(prompt) for prompt in prompts])
        texts = _Texts(call, generation, self._echoes(call, prompts))
        if call.wanted.stream:
            return call.stream(generation, texts.chunk)
        parts = await call.whole(generation)
        answer = Completion(
            call.id,
            call.created,
            call.model,
            [texts.answer(choice, parts[choice.index]) for choice in generation.choices],
            generation.usage,
        )
        return Response(msgspec.json.encode(answer), media_type="application/json")

    def _echoes(self, call: Call[CompletionBody], prompts: list[Unread]) -> list[str]:
        if not call.body.echo:
            return [""] * len(prompts)
        decode = self.service.reader.tokenizer.decode
        return [prompt if isinstance(prompt, str) else decode(prompt) for prompt in prompts]


class _Texts:
    """Puts deltas into completions' shapes; remembers how long each text is so far."""

    def __init__(
        self, call: Call[CompletionBody], generation: Generation, echoes: list[str]
    ) -> None:
        self._call, self._generation = call, generation
        self._tokenizer = call.service.reader.tokenizer
        self._echo = [echo for echo in echoes for _ in range(call.wanted.n)]
        self._lengths = [len(echo) for echo in self._echo]
        self._encoder = msgspec.json.Encoder()

    def chunk(self, choice: Choice, delta: Delta) -> bytes:
        """One event."""
        index = choice.index
        text, self._echo[index] = self._echo[index] + delta.text, ""
        one = CompletionChoice(
            index, text, self._logprobs(index, delta), delta.finish_reason, delta.stop_reason
        )
        call = self._call
        usage = call.usage_of_chunk(self._generation)
        chunk = Completion(call.id, call.created, call.model, [one], usage)
        return event(self._encoder.encode(chunk))

    def answer(self, choice: Choice, parts: list[Delta]) -> CompletionChoice:
        """One whole answer."""
        found = [self._logprobs(choice.index, part) for part in parts]
        columns_found = [part for part in found if part is not None]
        return CompletionChoice(
            choice.index,
            self._echo[choice.index] + "".join(part.text for part in parts),
            joined(columns_found) if columns_found else None,
            parts[-1].finish_reason,
            parts[-1].stop_reason,
        )

    def _logprobs(self, index: int, delta: Delta) -> CompletionLogprobs | None:
        if self._call.wanted.sampling.logprobs is None or not delta.ids:
            return None
        found = columns(self._tokenizer, delta.ids, delta.logprobs, self._lengths[index])
        self._lengths[index] += sum(map(len, found.tokens))
        return found
