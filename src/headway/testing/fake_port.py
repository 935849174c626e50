"""A port over a bad network: messages are lost, late and repeated, and sent again until acknowledged."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random

from headway.core.fleet import ABORTED, Handoff, Report
from headway.core.protocols import Clock, InstancePort
from headway.core.request import NS_PER_MS, Request

Deliver = Callable[[], None]


class _Link:
    """One direction, one request at a time in order: the next message leaves when this one is acknowledged."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._queues: dict[int, deque[Deliver]] = {}

    def send(self, key: int, deliver: Deliver) -> None:
        """Deliver at least once, after all earlier messages of `key`."""
        queue = self._queues.setdefault(key, deque())
        queue.append(deliver)
        if len(queue) == 1:
            self._transmit(key, deliver)

    def _transmit(self, key: int, deliver: Deliver) -> None:
        queue = self._queues.get(key)
        if not queue or queue[0] is not deliver:
            return  # acknowledged
        self._network.carry(partial(self._arrive, key, deliver))
        self._network.later(self._network.resend_ns, partial(self._transmit, key, deliver))

    def _arrive(self, key: int, deliver: Deliver) -> None:
        deliver()
        self._network.carry(partial(self._acknowledged, key, deliver))

    def _acknowledged(self, key: int, deliver: Deliver) -> None:
        queue = self._queues.get(key)
        if not queue or queue[0] is not deliver:
            return
        queue.popleft()
        if queue:
            self._transmit(key, queue[0])
        else:
            del self._queues[key]


class Network:
    """Loses, delays and repeats, by seed. Counts what it did."""

    def __init__(
        self, clock: Clock, *, delay_ns: int, loss: float, repeat: float, seed: int
    ) -> None:
        self._clock, self._delay_ns, self._loss, self._repeat = clock, delay_ns, loss, repeat
        self.resend_ns = 4 * delay_ns
        self._rng = Random(seed)
        self.lost = self.repeated = 0

    def carry(self, deliver: Deliver) -> None:
        """Try once; never runs `deliver` inside the call."""
        rng = self._rng
        if rng.random() < self._loss:
            self.lost += 1
            return
        copies = 1 + (rng.random() < self._repeat)
        self.repeated += copies - 1
        for _ in range(copies):
            self.later(round(self._delay_ns * rng.uniform(0.5, 2.0)), deliver)

    def later(self, delay_ns: int, fn: Deliver) -> None:
        """Run `fn` after a while."""
        self._clock.call_at(self._clock.now_ns() + delay_ns, fn)


class FakePort:
    """An `InstancePort` in front of another. Submit, abort and end arrive at least once and in order per request.

    The instance's ends must come through `end`: set the inner port's `ended` to it, and `ended` to the
    fleet's. Reports may be lost and may overtake each other. KV does not cross: requests stay where they are.
    """

    def __init__(
        self,
        clock: Clock,
        inner: InstancePort,
        *,
        delay_ns: int = 5 * NS_PER_MS,
        loss: float = 0.2,
        repeat: float = 0.1,
        seed: int = 0,
    ) -> None:
        self.network = Network(clock, delay_ns=delay_ns, loss=loss, repeat=repeat, seed=seed)
        self.inner = inner
        self.ended: Callable[[Request, str], None] = lambda request, outcome: None
        self._there, self._back = _Link(self.network), _Link(self.network)

    def submit(self, request: Request, reply: Callable[[str | None], None]) -> None:
        """Send until acknowledged; the instance ignores repeats, and so must whoever gets the replies."""
        answer = partial(self._answer, request.id, reply)
        self._there.send(request.id, partial(self.inner.submit, request, answer))

    def _answer(
        self, request_id: int, reply: Callable[[str | None], None], why_not: str | None
    ) -> None:
        if why_not is not None:
            self._back.send(request_id, partial(reply, why_not))

    def abort(self, request_id: int, outcome: str = ABORTED) -> None:
        """Send until acknowledged, after the submit."""
        self._there.send(request_id, partial(self.inner.abort, request_id, outcome))

    def end(self, request: Request, outcome: str) -> None:
        """From the instance: tell the fleet, again and again if need be."""
        self._back.send(request.id, partial(self.ended, request, outcome))

    def watch(self, sink: Callable[[Report], None]) -> None:
        """Reports are sent once."""
        self.inner.watch(lambda report: self.network.carry(partial(sink, report)))

    def export_to(
        self, request_id: int, peer: str, on_ready: Callable[[Handoff | None], None]
    ) -> None:
        """Not over this network: it stays."""
        del request_id, peer
        on_ready(None)

    def import_from(
        self, request: Request, handoff: Handoff, peer: str, reply: Callable[[str | None], None]
    ) -> None:
        """Not over this network."""
        del request, handoff, peer
        reply("this port moves no KV: choose another instance")

    def drain(self, on_drained: Callable[[], None]) -> None:
        """Pass on at once; the callback comes back over the network, and counts once."""
        left = [on_drained]
        self.inner.drain(lambda: self._back.send(-1, lambda: left.pop()() if left else None))
