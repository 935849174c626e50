"""Real time on an asyncio loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from headway.clocks import WallClock
from headway.core.protocols import RESULT

T = TypeVar("T")


def on_loop(body: Callable[[WallClock, asyncio.Future[T]], None], speedup: float = 1.0) -> T:
    """Run `body(clock, answer)` on a loop until it has set the answer."""

    async def run() -> T:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        body(WallClock(loop, speedup=speedup), answer)
        return await asyncio.wait_for(answer, 20)

    return asyncio.run(run())


def test_calls_run_in_order_of_time_and_never_early() -> None:
    def body(clock: WallClock, answer: asyncio.Future[list[tuple[int, int]]]) -> None:
        log: list[tuple[int, int]] = []

        def note(due_ns: int) -> None:
            log.append((due_ns, clock.now_ns()))

        for due_ns in (30_000_000, 10_000_000, 20_000_000):
            clock.call_at(due_ns, partial(note, due_ns), RESULT)
        clock.call_at(40_000_000, lambda: answer.set_result(log))

    log = on_loop(body)
    assert [due for due, _ in log] == [10_000_000, 20_000_000, 30_000_000]
    resolution_ns = 1_000_000  # of the loop's clock: what asyncio itself takes as "due"
    assert all(now >= due - resolution_ns for due, now in log)


def test_a_past_time_means_now() -> None:
    def body(clock: WallClock, answer: asyncio.Future[bool]) -> None:
        clock.call_at(-5_000_000_000, lambda: answer.set_result(True))

    assert on_loop(body)


def test_post_from_another_thread_runs_on_the_loop() -> None:
    def body(clock: WallClock, answer: asyncio.Future[tuple[int, int]]) -> None:
        def elsewhere() -> None:
            me = threading.get_ident()
            clock.post(lambda: answer.set_result((me, threading.get_ident())))

        threading.Thread(target=elsewhere).start()

    posted_from, ran_on = on_loop(body)
    assert ran_on == threading.get_ident() != posted_from


def test_cancelled_calls_do_not_run() -> None:
    def body(clock: WallClock, answer: asyncio.Future[str]) -> None:
        timer = clock.call_at(1_000_000, lambda: answer.set_result("cancelled call ran"))
        clock.call_at(20_000_000, lambda: answer.set_result("only the other ran"))
        timer.cancel()

    assert on_loop(body) == "only the other ran"


def test_speedup_makes_time_pass_faster_by_that_factor() -> None:
    def body(clock: WallClock, answer: asyncio.Future[tuple[float, int]]) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        clock.call_at(
            10_000_000_000, lambda: answer.set_result((loop.time() - start, clock.now_ns()))
        )

    took_s, now_ns = on_loop(body, speedup=1000.0)
    assert now_ns >= 9_999_000_000
    assert took_s * 1e12 >= 9_990_000_000


def test_clocks_with_one_start_agree() -> None:
    def body(clock: WallClock, answer: asyncio.Future[int]) -> None:
        twin = WallClock(asyncio.get_running_loop(), start_s=clock.start_s)
        before = clock.now_ns()
        between = twin.now_ns()
        answer.set_result((before <= between <= clock.now_ns()) - 1)

    assert on_loop(body) == 0


def test_ties_do_not_occur() -> None:
    def body(clock: WallClock, answer: asyncio.Future[bool]) -> None:
        answer.set_result(clock.passed(RESULT, 5))

    assert on_loop(body)
