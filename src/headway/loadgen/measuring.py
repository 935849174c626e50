"""One run from start to end: find the model, calibrate, warm up, drive, sum up."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence as Seq
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp

from headway.core import NS_PER_S
from headway.core.fleet import FINISHED_OK, REJECTED
from headway.core.protocols import Workload
from headway.loadgen.calibrate import word_rate
from headway.loadgen.call import Call, exchange, traced
from headway.loadgen.driver import Driver
from headway.loadgen.endpoint import CHAT, Endpoint, EndpointError, find_model, open_session
from headway.loadgen.lag import lag_block
from headway.loadgen.lengths import lengths_block, remarks
from headway.loadgen.measured import UNSEEN, Measured
from headway.loadgen.prompts import Prompts, WordRate, ids_within
from headway.loadgen.server_watch import ServerWatch
from headway.metrics import summarise
from headway.metrics.latency import statistics_of

Tell = Callable[[str, float, float | None], None]

_PATIENCE_S = 1.0
_FIRST_WORDS = WordRate(
    1.5
)  # before it is known: rather too short a prompt than one that is refused


@dataclass(frozen=True)
class BenchPlan:
    """All that one run needs. `endpoint.model` may be empty: then the server is asked.

    `config` is what the caller wants to read again in the JSON. It holds `request_rate`, `burstiness` and
    `max_concurrency` at least.
    """

    endpoint: Endpoint
    workload: Workload
    requests: int | None = None  # how many the workload offers, where known: for progress only
    limit: int | None = None  # most in flight, of an open loop
    closed: bool = False  # users wait for answers: load follows the server
    duration_s: float | None = None
    warmup: int = 1
    ready_s: float = 120.0  # how long a server may answer the first warm-up with 503 or 429
    salt: int = 0
    ids: tuple[int, int] | None = None
    words: bool = False
    keep_text: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)


def bench(plan: BenchPlan, tell: Tell | None = None) -> Measured:
    """Run it; an interrupt ends it early and still reports.

    Raises:
        EndpointError: nobody answers, or the first request is refused.
    """
    return asyncio.run(_bench(plan, tell))


async def _bench(plan: BenchPlan, tell: Tell | None) -> Measured:
    async with open_session(plan.endpoint.api_key, traced()) as session:
        card = await find_model(session, plan.endpoint.root, plan.endpoint.model or None)
        endpoint = replace(plan.endpoint, model=card.id, run_name=f"bench-{plan.salt:x}")
        notes: list[str] = []
        ids = plan.ids or ids_within(card.vocabulary)
        by_words = plan.words or endpoint.kind == CHAT
        words = _FIRST_WORDS if by_words else None
        warming = replace(endpoint, run_name=f"{endpoint.run_name}-warmup")
        await _warm_up(
            plan, session, warming, Prompts(warming, salt=~plan.salt, ids=ids, words=words), tell
        )
        if by_words:  # asked of a server that is ready
            words = await word_rate(session, endpoint)
            if words is None:
                words = WordRate()
                notes.append(
                    "The server counts no tokens for us: one word was taken for one token."
                )
        driver = Driver(
            session,
            endpoint,
            Prompts(endpoint, salt=plan.salt, ids=ids, words=words),
            plan.workload,
            limit=plan.limit,
            duration_ns=None if plan.duration_s is None else round(plan.duration_s * NS_PER_S),
            keep_text=plan.keep_text,
        )
        watch = ServerWatch(session, endpoint.root, driver.now)
        polling = asyncio.create_task(watch.run())
        try:
            with _interrupts(driver.stop):
                await driver.run(None if tell is None else _teller(tell, plan.requests))
        finally:
            polling.cancel()
    notes += remarks(lengths_block(driver.calls), words=words is not None)
    return _measured(plan, endpoint, driver, watch, notes)


async def _warm_up(
    plan: BenchPlan,
    session: aiohttp.ClientSession,
    endpoint: Endpoint,
    prompts: Prompts,
    tell: Tell | None,
) -> None:
    """Send some requests like those that will count, one after the other, and count none of them."""
    deadline = asyncio.get_running_loop().time() + plan.ready_s
    for number, offer in zip(range(plan.warmup), plan.workload.offers(), strict=False):
        body = prompts.body(offer.request, offer.output_tokens)
        while True:
            call = Call(offer.request, offer.output_tokens)
            await exchange(
                session,
                endpoint.url,
                call,
                body,
                endpoint.headers(offer.request),
                now=lambda: 0,
                on_tokens=lambda _: None,
                timeout_s=endpoint.timeout_s,
            )
            if call.outcome == FINISHED_OK:
                break
            waited = asyncio.get_running_loop().time() >= deadline
            if call.outcome != REJECTED or waited:
                raise EndpointError(
                    f"warm-up request {number + 1} to {endpoint.url} failed: {call.error}: see to it, "
                    "or go without (--warmup 0)"
                )
            if tell is not None:
                tell(f"waiting for the server: {call.error}", 0, None)
            await asyncio.sleep(min(_PATIENCE_S, plan.ready_s))


@contextmanager
def _interrupts(stop: Callable[[], None]) -> Iterator[None]:
    """Let the first interrupt stop the run and leave the next one its usual meaning."""
    loop = asyncio.get_running_loop()

    def once() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        stop()

    try:
        loop.add_signal_handler(signal.SIGINT, once)
    except (
        NotImplementedError,
        RuntimeError,
        ValueError,
    ):  # not on this system, or not this thread's
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _teller(tell: Tell, requests: int | None) -> Callable[[int, int], None]:
    def told(ended: int, flying: int) -> None:
        tell(f"{ended} ended, {flying} in flight", ended, requests)

    return told


def _measured(
    plan: BenchPlan, endpoint: Endpoint, driver: Driver, watch: ServerWatch, notes: Seq[str]
) -> Measured:
    recorder, calls = driver.ledger.recorder, driver.calls
    summary = summarise(recorder)
    for name in UNSEEN:
        nothing = statistics_of(name, None)
        for part in (summary, *summary["by_class"].values(), *summary["by_tenant"].values()):
            part.update(nothing)
    verdict = summary["offered_exceeds_capacity"]
    if verdict is not None:  # what a client sees of the queue is the time to first token
        told = verdict.replace("the queue delay", "the time to first token")
        summary["offered_exceeds_capacity"] = None if plan.closed or driver.interrupted else told
    unfinished = summary["outcomes"]["unfinished"]
    partial = (
        f"PARTIAL: interrupted after {driver.wall_s:.1f} s; {unfinished} requests were in flight and count "
        "as missed."
        if driver.interrupted
        else ""
    )
    generator = lag_block(calls, recorder.slos.values(), driver.cpu_s, driver.wall_s)
    return Measured(
        title=f"{endpoint.model} at {endpoint.url}",
        summary=summary,
        generator=generator,
        lengths=lengths_block(calls),
        server=watch.series(),
        config={
            **plan.config,
            "model": endpoint.model,
            "url": endpoint.url,
            "run_name": endpoint.run_name,
        },
        notes=(*notes, *_failures(calls)),
        partial=partial,
        wall_s=driver.wall_s,
        origin_ns=driver.origin_ns,
        recorder=recorder,
        calls=calls,
    )


def _failures(calls: Seq[Call]) -> Iterator[str]:
    """The commonest reasons of requests that did not finish."""
    reasons = Counter(
        f"{call.outcome}: {call.error}" for call in calls if call.outcome not in ("", FINISHED_OK)
    )
    for reason, count in reasons.most_common(3):
        yield f"{count} of {len(calls)} requests {reason}"
