"""The streams of one call: asked for together, read in the order in which pieces come, ended together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from headway.checkpoint.tokenizer import Tokenizer
from headway.server.answers import PromptDetails, Usage
from headway.server.choices import Choice, Delta
from headway.server.errors import overloaded
from headway.server.promises import Terms
from headway.server.stream import Gateway, Overloaded, Piece, Prompt
from headway.server.validation import Asked


class Generation:
    """All choices of a call. Whoever holds it calls `abort` in the end, whatever happened."""

    def __init__(self, n: int) -> None:
        self.choices: list[Choice] = []
        self._n = n
        self._queue: asyncio.Queue[tuple[Choice, Piece]] = asyncio.Queue(1)

    @property
    def more(self) -> bool:
        """Is a piece there already?"""
        return any(choice.stream.unread for choice in self.choices if not choice.ended)

    @property
    def unread(self) -> int:
        """Pieces that wait, of the choice that has most."""
        return max((choice.stream.unread for choice in self.choices), default=0)

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        heads = self.choices[:: self._n]  # one per prompt
        prompt = sum(len(choice.prompt.ids) for choice in heads)
        made = sum(choice.output_tokens for choice in self.choices)
        cached = sum(choice.cached_tokens for choice in heads)
        return Usage(prompt, made, prompt + made, PromptDetails(cached))

    async def deltas(self) -> AsyncGenerator[tuple[Choice, Delta], None]:
        """What each piece adds, in order within a choice, until every choice has ended.

        Raises:
            ApiError: a stream ended otherwise than finished; nothing follows.
        """
        async with aclosing(self._pieces()) as pieces:
            left = len(self.choices)
            async for choice, piece in pieces:
                if choice.ended:
                    continue  # it hit a stop string while this piece was on its way
                yield choice, choice.take(piece)
                left -= choice.ended
                if not left:
                    return

    def abort(self) -> None:
        """Nobody reads on; no-op for choices that have ended."""
        for choice in self.choices:
            choice.stream.abort()

    async def _pieces(self) -> AsyncGenerator[tuple[Choice, Piece], None]:
        if len(self.choices) == 1:
            choice = self.choices[0]
            async with aclosing(aiter(choice.stream)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    yield choice, piece
            return
        readers = [asyncio.ensure_future(self._forward(choice)) for choice in self.choices]
        try:
            while True:
                yield await self._queue.get()
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)

    async def _forward(self, choice: Choice) -> None:
        async for piece in choice.stream:
            await self._queue.put((choice, piece))


def admit(gateway: Gateway, prompts: int, tenant: str) -> None:
    """Ask whether so many prompts would be taken, before anything is made of them.

    Raises:
        ApiError: 503, and when to come back.
    """
    try:
        gateway.check(prompts, tenant)
    except Overloaded as state:
        raise overloaded(state) from None


async def generate(
    gateway: Gateway,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    wanted: Asked,
    terms: Terms,
) -> Generation:
    """Submit every prompt `n` times; all are taken, or none is left behind.

    `max_tokens` is cut to what the context leaves.

    Raises:
        ApiError: 503, and when to come back.
    """
    generation = Generation(wanted.n)
    context = gateway.model.context_tokens
    try:
        for ids in prompts:
            room = context - len(ids)
            most = room if wanted.max_tokens is None else min(room, wanted.max_tokens)
            for choice in range(wanted.n):
                sampling = replace(
                    wanted.sampling,
                    seed=wanted.seed_of(choice),
                    min_tokens=min(most, wanted.sampling.min_tokens),
                )
                prompt = Prompt(tuple(ids), most, sampling, *terms)
                stream = await gateway.submit(prompt)
                index = len(generation.choices)
                generation.choices.append(Choice(index, prompt, stream, tokenizer, wanted))
    except Overloaded as state:
        generation.abort()
        raise overloaded(state) from None
    except BaseException:
        generation.abort()
        raise
    return generation
