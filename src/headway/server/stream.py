"""What the HTTP side and the fleet's side say to each other: a prompt goes in, a stream of pieces comes out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from headway.core.request import NO_SLO, Slo
from headway.core.sampling import GREEDY, Sampling, TokenLogprob


@dataclass(frozen=True, slots=True)
class Prompt:
    """One sequence to generate, validated: ids are in the vocabulary and prompt + max_tokens fit the context."""

    ids: tuple[int, ...]
    max_tokens: int
    sampling: Sampling = GREEDY
    slo: Slo = NO_SLO
    tenant: str = ""
    session: int | None = None


class Piece(NamedTuple):
    """What one step emitted, or how the stream ended.

    `outcome` is empty until the last piece, which has no ids; `core.fleet` names the outcomes. `time_ns` is on the
    gateway's clock. `cached_tokens` is of the prompt, known from the first piece on if at all.
    """

    ids: Sequence[int]
    logprobs: Sequence[TokenLogprob]
    time_ns: int
    outcome: str = ""
    cached_tokens: int = 0


class Stream:
    """The pieces of one prompt, in order; an async iterator that ends after the piece with an outcome.

    `push` is the gateway's. Unread pieces are kept: ids are small, and `max_tokens` bounds them. Whoever leaves
    before the end must `abort`, which frees the blocks.
    """

    def __init__(self, request_id: int, abort: Callable[[int], None]) -> None:
        self.request_id = request_id
        self._abort = abort
        self._pieces: deque[Piece] = deque()
        self._more = asyncio.Event()
        self.ended = False
        self.complete = False  # set before `abort` by a reader that has all it wants: no failure

    def push(self, piece: Piece) -> None:
        """Add a piece."""
        self._pieces.append(piece)
        self._more.set()

    def abort(self) -> None:
        """Nobody reads on; no-op after the end."""
        if not self.ended:
            self.ended = True
            self._abort(self.request_id)

    @property
    def unread(self) -> int:
        """Pieces that wait for the reader."""
        return len(self._pieces)

    async def __aiter__(self) -> AsyncIterator[Piece]:
        while not self.ended:
            while not self._pieces:
                self._more.clear()
                await self._more.wait()
            piece = self._pieces.popleft()
            self.ended = bool(piece.outcome)
            yield piece


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What is served, as far as clients may know. `context_tokens` bounds prompt + output."""

    name: str
    created_s: int
    context_tokens: int
    vocabulary: int
    blocks: int
    block_tokens: int
    world: str  # live | sim


class Load(NamedTuple):
    """The fleet now, as last reported."""

    running: int
    waiting: int
    kv_usage: float  # 0 … 1


class Overloaded(Exception):  # noqa: N818 - it is the server's state, not a fault
    """Admission said no. `reason` is one sentence for the client; `draining` when the server is about to end."""

    def __init__(self, reason: str, *, retry_after_s: int = 1, draining: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.retry_after_s, self.draining = reason, retry_after_s, draining


class Gateway(Protocol):
    """The fleet as the HTTP side sees it. All methods are called on the event loop and return at once."""

    @property
    def model(self) -> ServedModel: ...

    @property
    def ready(self) -> str:
        """Empty when requests are taken; else why not, one sentence."""

    def check(self, prompts: int, tenant: str) -> None:
        """Would so many more prompts be taken at all? Cheap: asked before anything is tokenised.

        Raises:
            Overloaded: no.
        """

    async def submit(self, prompt: Prompt) -> Stream:
        """Admit, route and send; returns once the instance has accepted.

        Raises:
            Overloaded: no.
        """

    def load(self) -> Load: ...
