"""A server's life: hosts, texts and socket come up side by side; signals drain; nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from headway.checkpoint.checkpoint import Checkpoint
from headway.clocks.wall import WallClock
from headway.core.protocols import Admission, Routing
from headway.host import HostSpec
from headway.host.frames import Ready
from headway.server.app import create_app
from headway.server.gateway import FleetGateway
from headway.server.listener import listen
from headway.server.pulse import beat
from headway.server.revival import Revival
from headway.server.settings import Settings
from headway.server.stream import ServedModel

PARTING_S = 3.0  # for streams to be told of the end, and connections to close
PATIENCE_S = 2.0  # loading says nothing more often
Say = Callable[[str], None]


@dataclass(frozen=True)
class ServicePlan:
    """Everything a server needs to begin; `facts` are said before anything is loaded."""

    model: ServedModel
    specs: tuple[HostSpec, ...]
    policies: tuple[Admission, Routing]
    checkpoint: Checkpoint
    settings: Settings
    host: str = "127.0.0.1"
    port: int = 8000
    shutdown_timeout_s: float = 30.0
    facts: tuple[str, ...] = ()
    seed: int = 0


async def run_service(plan: ServicePlan, say: Say, began_s: float) -> None:
    """Serve until a signal asks for the end; `say` gets lines for whoever watches.

    `began_s` on the monotonic clock is when the command began.

    Raises:
        HeadwayError: a host did not start, or the address cannot be had.
    """
    clock = WallClock(asyncio.get_running_loop())
    gateway = FleetGateway(clock, plan.model, plan.specs, plan.policies, seed=plan.seed)
    for fact in plan.facts:
        say(fact)
    ending = Ending()
    revival = Revival(gateway, say)
    gateway.host_died = revival.died
    try:
        with ending.on_signals():
            await _run(plan, gateway, ending, say, began_s)
    finally:
        await revival.stop()
        await gateway.close()
        plan.checkpoint.close()


async def _run(
    plan: ServicePlan, gateway: FleetGateway, ending: Ending, say: Say, began_s: float
) -> None:
    """Start, serve, drain; whatever fails first ends the rest."""
    closing = asyncio.Event()
    starting = asyncio.ensure_future(gateway.start(Layers(say).loaded))
    asked = asyncio.ensure_future(ending.asked.wait())
    beating = asyncio.ensure_future(beat(gateway, say))
    tasks: list[asyncio.Future[Any]] = [starting, asked, beating]
    try:
        await asyncio.sleep(0)  # the hosts are on their way: they take longer than all the rest
        app = create_app(
            gateway,
            plan.checkpoint.tokenizer,
            plan.checkpoint.template,
            plan.settings,
            gateway.metrics.exposition,
        )
        listening = asyncio.ensure_future(
            listen(app, plan.host, plan.port, shutdown=closing, grace_s=PARTING_S)
        )
        tasks.append(listening)
        await asyncio.wait({starting, listening, asked}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done() and not listening.done():
            say_ready(plan, starting.result(), say, began_s)
            await asyncio.wait({listening, asked}, return_when=asyncio.FIRST_COMPLETED)
        if listening.done():
            listening.result()
            return
        if starting.done():
            await drain(plan, gateway, ending, say)
        closing.set()
        await asyncio.wait({listening}, timeout=PARTING_S + 1)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def drain(plan: ServicePlan, gateway: FleetGateway, ending: Ending, say: Say) -> None:
    """Let what is in flight finish, within the time there is; then end it with a word to its readers."""
    gateway.refuse()
    load = gateway.load()
    left = load.running + load.waiting
    if left:
        limit = "" if ending.patient else f" for at most {plan.shutdown_timeout_s:g} s"
        say(f"draining {left} request{'s' * (left > 1)}{limit}; Ctrl-C ends them now")
    finished = asyncio.ensure_future(gateway.idle())
    now = asyncio.ensure_future(ending.now.wait())
    timeout = None if ending.patient else plan.shutdown_timeout_s
    await asyncio.wait({finished, now}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    if not finished.done():
        gateway.end_streams("the server was shut down before the answer was complete")
    for task in (finished, now):
        task.cancel()


def say_ready(plan: ServicePlan, ready: list[Ready], say: Say, began_s: float) -> None:
    """Say what was loaded, and where to send requests."""
    model, first = plan.model, ready[0]
    tokens = model.blocks * model.block_tokens
    slowest = max(one.load_s for one in ready)
    say(
        f"{first.model}: {first.layers} layers on {first.device} ({first.dtype}), "
        f"loaded in {slowest:.1f} s"
    )
    say(
        f"KV cache: {tokens:,} tokens; maximum concurrency for {model.context_tokens:,} tokens "
        f"per request: {tokens / model.context_tokens:.2f}x"
    )
    host = f"[{plan.host}]" if ":" in plan.host else plan.host
    say(f"ready in {time.monotonic() - began_s:.1f} s: http://{host}:{plan.port}")


class Layers:
    """Says how far loading is, when it takes long."""

    def __init__(self, say: Say) -> None:
        self._say, self._said_s = say, time.monotonic()

    def loaded(self, done: int, total: int) -> None:
        """So many layers are loaded, of so many."""
        if time.monotonic() - self._said_s >= PATIENCE_S:
            self._said_s = time.monotonic()
            self._say(f"loading: {done} of {total} layers")


class Ending:
    """What signals have asked for: Ctrl-C once or SIGTERM drains, anything after that ends now.

    `patient`: the first was Ctrl-C, so somebody watches and may press it again.
    """

    def __init__(self) -> None:
        self.asked, self.now = asyncio.Event(), asyncio.Event()
        self.patient = False

    def hear(self, number: int) -> None:
        """A signal came."""
        if self.asked.is_set():
            self.now.set()
        else:
            self.patient = number == signal.SIGINT
        self.asked.set()

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Listen to them for a while."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.hear, number)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
