"""One request over HTTP: when it was due, when it left, and when each token came back."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable

import aiohttp

from headway.core import Request
from headway.core.fleet import FAILED_STEP, FINISHED_OK, REJECTED
from headway.loadgen.wire import (
    DONE,
    Chunk,
    EventSplitter,
    Usage,
    message_in,
    read_chunk,
    sentence_of,
)

TIMEOUT = "timeout"  # an outcome that only a client knows

_TURNED_AWAY = {429, 503}
_BROKEN_ENDS = {"abort", "error"}  # finish reasons of answers that were not finished

Now = Callable[[], int]


class Call:
    """One request of a run. Times in ns since the run began, -1 when it has not happened."""

    __slots__ = (
        "closing_ns",
        "connect_ns",
        "eligible_ns",
        "end_ns",
        "error",
        "first_ns",
        "last_ns",
        "outcome",
        "output_tokens",
        "pieces",
        "request",
        "sent_ns",
        "stamps",
        "usage",
        "wanted_output",
    )

    def __init__(self, request: Request, wanted_output: int, *, keep_text: bool = False) -> None:
        self.request = request
        self.wanted_output = wanted_output
        self.eligible_ns = request.arrival_ns  # due, and within the limit of concurrency
        self.sent_ns = -1  # its headers were written
        self.connect_ns = 0  # spent on a new connection before that
        self.first_ns = -1
        self.last_ns = -1
        self.closing_ns = -1  # of an event that ended the answer without text
        self.end_ns = -1
        self.stamps = array("q")  # of every event that brought tokens
        self.pieces: list[str] | None = [] if keep_text else None
        self.usage: Usage | None = None
        self.output_tokens = 0  # as the server counts them, else events; known at the end
        self.outcome = ""
        self.error = ""

    @property
    def lag_ns(self) -> int:
        """How late it left through our own fault: not for a limit, nor for a handshake."""
        return max(0, self.sent_ns - self.connect_ns - self.eligible_ns)

    def ended(self, outcome: str, why: str = "") -> None:
        """Note how it ended; the first word counts."""
        if not self.outcome:
            self.outcome, self.error = outcome, why

    def hear(self, chunk: Chunk, now_ns: int) -> bool:
        """Take one event in; did it bring tokens?

        An event of `completions` without text is a token that shows nothing yet (half a character). One
        that also ends the answer may or may not be a token: `usage` decides later.
        """
        if chunk.usage is not None:
            self.usage = chunk.usage
        if chunk.error is not None:
            self.ended(FAILED_STEP, message_in(chunk.error))
            return False
        brought = False
        for choice in chunk.choices or ():
            said = choice.said
            if choice.finish_reason is not None:
                self.closing_ns = now_ns
                if choice.finish_reason in _BROKEN_ENDS:
                    self.ended(FAILED_STEP, f"the server gave up: {choice.finish_reason}")
            brought |= bool(said) or (choice.finish_reason is None and not choice.opens)
            if said and self.pieces is not None:
                self.pieces.append(said)
        if brought:
            self.stamps.append(now_ns)
            if self.first_ns < 0:
                self.first_ns = now_ns
            self.last_ns = now_ns
        return brought


def traced() -> aiohttp.TraceConfig:
    """Notes in the call that comes as `trace_request_ctx` when its bytes left, and what connecting took."""
    trace = aiohttp.TraceConfig()

    async def begins(_: object, context: object, __: object) -> None:
        if (told := context.trace_request_ctx) is not None:  # type: ignore[attr-defined]
            told[0].connect_ns = -told[1]()

    async def connected(_: object, context: object, __: object) -> None:
        if (told := context.trace_request_ctx) is not None:  # type: ignore[attr-defined]
            told[0].connect_ns += told[1]()

    async def left(_: object, context: object, __: object) -> None:
        if (told := context.trace_request_ctx) is not None:  # type: ignore[attr-defined]
            told[0].sent_ns = told[1]()

    trace.on_connection_create_start.append(begins)
    trace.on_connection_create_end.append(connected)
    trace.on_request_headers_sent.append(left)
    return trace


async def exchange(
    session: aiohttp.ClientSession,
    url: str,
    call: Call,
    body: bytes,
    headers: dict[str, str],
    *,
    now: Now,
    on_tokens: Callable[[Call], None],
    timeout_s: float,
) -> None:
    """Send it and listen to the end; never raises for what a server or a network does.

    `on_tokens` is called after each event that brought tokens, with the call showing it.
    """
    try:
        async with asyncio.timeout(timeout_s):
            context = (call, now)
            async with session.post(
                url, data=body, headers=headers, trace_request_ctx=context
            ) as got:
                await _listen(got, call, now, on_tokens)
    except TimeoutError:
        call.ended(TIMEOUT, f"no answer within {timeout_s:g} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        call.ended(FAILED_STEP, f"{type(error).__name__}: {error}".rstrip(": "))
    call.end_ns = now()


async def _listen(
    got: aiohttp.ClientResponse, call: Call, now: Now, on_tokens: Callable[[Call], None]
) -> None:
    if got.status != 200:
        why = f"HTTP {got.status}: {sentence_of(await got.read())}"
        call.ended(REJECTED if got.status in _TURNED_AWAY else FAILED_STEP, why)
        return
    if got.content_type == "application/json":  # a server that does not stream
        if call.hear(read_chunk(await got.read()), now()):
            on_tokens(call)
        call.ended(FINISHED_OK)
        return
    splitter = EventSplitter()
    closed = False
    async for block in got.content.iter_any():
        for data in splitter.feed(block):
            if data == DONE:
                closed = True
            elif call.hear(read_chunk(data), now()):
                on_tokens(call)
    if closed or call.closing_ns >= 0:
        call.ended(FINISHED_OK)
    else:
        call.ended(FAILED_STEP, "the stream broke off before the answer was finished")
