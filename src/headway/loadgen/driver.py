"""Sends a workload on schedule and listens: open loop, closed loop, or open with a limit of concurrency.

One event loop does it all. A request's body is made before it is due, whenever there is time; its latency
counts from when it was due, not from when it left.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

import aiohttp

from headway.core import NS_PER_MS, NS_PER_S
from headway.core.protocols import Offer, Workload
from headway.loadgen.call import Call, exchange
from headway.loadgen.endpoint import Endpoint
from headway.loadgen.ledger import Ledger
from headway.loadgen.prompts import Prompts

_EARLY_NS = (
    NS_PER_MS  # timers of an event loop fire up to a millisecond late: wake before, then poll
)
_PREPARE_NS = 3 * NS_PER_MS  # a body is made ahead only when nothing is due within this time
_AHEAD = 64
_TELL_S = 0.2

Told = Callable[[int, int], None]
"""(requests ended, in flight)"""


class Driver:
    """Drives one run. `calls` holds every request that was offered, in order of offer."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        endpoint: Endpoint,
        prompts: Prompts,
        workload: Workload,
        *,
        limit: int | None = None,
        duration_ns: int | None = None,
        keep_text: bool = False,
    ) -> None:
        """`limit`: most requests in flight; later ones wait here, with their clock running.
        `duration_ns`: offer nothing after it.
        """
        self.calls: list[Call] = []
        self.ledger = Ledger()
        self.interrupted = False
        self.wall_s = self.cpu_s = 0.0
        self._session = session
        self._endpoint = endpoint
        self._prompts = prompts
        self._workload = workload
        self._limit = limit
        self._duration_ns = duration_ns
        self._keep_text = keep_text
        self._offers: Iterator[Offer] = iter(())
        self._ready: deque[tuple[Offer, bytes]] = deque()  # of the stream, bodies made
        self._caused: list[tuple[int, int, Offer]] = []  # a heap of offers that ends brought
        self._held: deque[tuple[Call, bytes]] = deque()  # due, and over the limit
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._broken: BaseException | None = None
        self._changed = asyncio.Event()
        self._stopping = False
        self._origin_ns = time.monotonic_ns()

    def now(self) -> int:
        """Nanoseconds since the run began."""
        return time.monotonic_ns() - self._origin_ns

    @property
    def origin_ns(self) -> int:
        """When the run began, on the machine's monotonic clock."""
        return self._origin_ns

    def stop(self) -> None:
        """Offer nothing more and leave what is in flight; the run returns soon."""
        self.interrupted = self._stopping = True
        self._changed.set()

    async def run(self, tell: Told | None = None) -> None:
        """Offer everything and wait for every end, or for `stop`."""
        self._offers = iter(self._workload.offers())
        self._fill(_AHEAD)
        teller = asyncio.create_task(self._keep_telling(tell)) if tell is not None else None
        gc.collect()
        gc.freeze()  # a full collection in the middle of a run would be a pause of our own making
        self._origin_ns = time.monotonic_ns()
        cpu_s = time.process_time()
        try:
            await self._offer_all()
            while self._tasks and not self._stopping:
                await self._change(None)
            if self._broken is not None:
                raise self._broken
        finally:
            await self._leave()
            self.wall_s = self.now() / NS_PER_S
            self.cpu_s = time.process_time() - cpu_s
            gc.unfreeze()
            if teller is not None:
                teller.cancel()

    async def _offer_all(self) -> None:
        while not self._stopping:
            due_ns = self._next_due()
            if due_ns is None:
                if not self._tasks:
                    return
                await self._change(None)
                continue
            if self._duration_ns is not None and due_ns >= self._duration_ns:
                return
            if not await self._until(due_ns):
                continue  # something earlier may have come up
            offer, body = self._take()
            self._due(offer, body)

    def _next_due(self) -> int | None:
        if not self._ready:
            self._fill(1)
        due = [self._ready[0][0].request.arrival_ns] if self._ready else []
        due += [self._caused[0][0]] if self._caused else []
        return min(due, default=None)

    def _take(self) -> tuple[Offer, bytes]:
        caused = self._caused
        if caused and (not self._ready or caused[0][0] < self._ready[0][0].request.arrival_ns):
            offer = heapq.heappop(caused)[2]
            return offer, self._body(offer)
        return self._ready.popleft()

    async def _until(self, due_ns: int) -> bool:
        """Wait for a time to the microsecond; False when something changed before."""
        while (left_ns := due_ns - self.now()) > 0:
            if left_ns > _PREPARE_NS and len(self._ready) < _AHEAD and self._fill(1):
                await asyncio.sleep(0)
            elif left_ns > _EARLY_NS:
                if await self._change((left_ns - _EARLY_NS) / NS_PER_S):
                    return False
            else:
                await asyncio.sleep(0)
        return not self._stopping

    async def _change(self, timeout_s: float | None) -> bool:
        """Wait until an end, a cause or a stop; False when the time was up before."""
        timer = None
        up = False

        def time_is_up() -> None:
            nonlocal up
            up = True
            self._changed.set()

        if timeout_s is not None:
            timer = asyncio.get_running_loop().call_later(timeout_s, time_is_up)
        await self._changed.wait()
        self._changed.clear()
        if timer is not None:
            timer.cancel()
        return not up

    def _fill(self, count: int) -> bool:
        """Make bodies ahead; False when the stream is out."""
        for _ in range(count):
            offer = next(self._offers, None)
            if offer is None:
                return False
            self._ready.append((offer, self._body(offer)))
        return True

    def _body(self, offer: Offer) -> bytes:
        return self._prompts.body(offer.request, offer.output_tokens)

    def _due(self, offer: Offer, body: bytes) -> None:
        call = Call(offer.request, offer.output_tokens, keep_text=self._keep_text)
        self.calls.append(call)
        self.ledger.offered(offer.request)
        if self._limit is not None and self._in_flight >= self._limit:
            self._held.append((call, body))
        else:
            self._send(call, body)

    def _send(self, call: Call, body: bytes) -> None:
        self._in_flight += 1
        task = asyncio.create_task(self._served(call, body))
        self._tasks.add(task)
        task.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if (
            not task.cancelled() and (error := task.exception()) is not None
        ):  # ours, not the server's
            self._broken = self._broken or error
            self._stopping = True
        self._changed.set()

    async def _served(self, call: Call, body: bytes) -> None:
        endpoint = self._endpoint
        await exchange(
            self._session,
            endpoint.url,
            call,
            body,
            endpoint.headers(call.request),
            now=self.now,
            on_tokens=self.ledger.tokens,
            timeout_s=endpoint.timeout_s,
        )
        self.ledger.ended(call)
        self._after(call)

    def _after(self, call: Call) -> None:
        """Its end frees a place and may cause more offers."""
        now_ns = self.now()
        self._in_flight -= 1
        if self._held and not self._stopping:
            waiting, body = self._held.popleft()
            waiting.eligible_ns = now_ns
            self._send(waiting, body)
        for offer in self._workload.on_end(call.request, call.outcome, now_ns):
            heapq.heappush(self._caused, (offer.request.arrival_ns, offer.request.id, offer))

    async def _leave(self) -> None:
        """Drop what is still in flight."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def _keep_telling(self, tell: Told) -> None:
        while True:
            tell(len(self.calls) - self._in_flight - len(self._held), self._in_flight)
            await asyncio.sleep(_TELL_S)
