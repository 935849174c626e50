"""POST /tokenize and /detokenize, in vLLM's shapes. Nothing is generated, so nothing is admitted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headway.server.answers import Tokens
from headway.server.bodies import DetokenizeBody, TokenizeBody
from headway.server.errors import invalid
from headway.server.service import Service
from headway.server.validation import check_model, check_tokens


@dataclass(frozen=True, slots=True)
class Tokenize:
    """Texts to ids and back."""

    service: Service

    async def tokenize(self, request: Request) -> Response:
        """Answer with the ids of a text or a conversation."""
        service, reader = self.service, self.service.reader
        body = await service.body(request, TokenizeBody)
        check_model(body.model, service.gateway.model)
        if (body.prompt is None) == (body.messages is None):
            raise invalid("prompt", "Give either a prompt or messages.")
        if body.messages is not None:
            ids = await reader.read_conversation(
                reader.conversation(body.messages),
                add_generation_prompt=body.add_generation_prompt is not False,
            )
        else:
            (prompt,) = reader.split(body.prompt)
            ids = await reader.read(prompt, special=body.add_special_tokens is not False)
        texts = [reader.tokenizer.token_text(token) for token in ids]
        answer = Tokens(
            len(ids),
            service.gateway.model.context_tokens,
            ids,
            texts if body.return_token_strs else None,
        )
        return Response(msgspec.json.encode(answer), media_type="application/json")

    async def detokenize(self, request: Request) -> Response:
        """Answer with the text of ids."""
        service, model = self.service, self.service.gateway.model
        body = await service.body(request, DetokenizeBody)
        check_model(body.model, model)
        ids = body.tokens
        if ids is None:
            raise invalid("tokens", "There are no tokens: give a list of ids.")
        if len(ids) > model.context_tokens:
            raise invalid("tokens", f"{len(ids)} tokens; at most {model.context_tokens}.")
        check_tokens("tokens", ids, model)
        decode = service.reader.tokenizer.decode
        text = await asyncio.to_thread(decode, ids, skip_special=False)
        return Response(msgspec.json.encode({"prompt": text}), media_type="application/json")
