"""Time jumps from event to event, and simultaneous ones have one order."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, strategies as st

from headway.clocks import VirtualClock
from headway.core.protocols import ARRIVAL, RESULT, TRANSFER, WAKE


def logger(clock: VirtualClock, log: list[tuple[int, object]], name: object) -> Callable[[], None]:
    return lambda: log.append((clock.now_ns(), name))


events = st.lists(st.tuples(st.integers(0, 3), st.integers(RESULT, WAKE), st.integers(0, 3)))


@given(events)
def test_events_run_by_time_rank_key_and_then_as_scheduled(
    planned: list[tuple[int, int, int]],
) -> None:
    clock, log = VirtualClock(), list[tuple[int, object]]()
    for number, (time_ns, rank, key) in enumerate(planned):
        clock.call_at(time_ns, logger(clock, log, (time_ns, rank, key, number)), rank, key)
    clock.run()
    assert [name for _, name in log] == sorted((*event, n) for n, event in enumerate(planned))
    assert all(isinstance(name, tuple) and name[0] == now for now, name in log)


def test_results_come_before_transfers_arrivals_and_wakes() -> None:
    clock, log = VirtualClock(), list[tuple[int, object]]()
    for rank in (WAKE, ARRIVAL, TRANSFER, RESULT):
        clock.call_at(5, logger(clock, log, rank), rank)
    clock.run()
    assert log == [(5, RESULT), (5, TRANSFER), (5, ARRIVAL), (5, WAKE)]


def test_a_past_time_means_now() -> None:
    clock, log = VirtualClock(), list[tuple[int, object]]()

    def schedule() -> None:
        clock.call_at(3, logger(clock, log, "late"))

    clock.call_at(10, schedule)
    clock.run()
    assert log == [(10, "late")]


def test_cancelled_calls_do_not_run_and_cancelling_late_is_harmless() -> None:
    clock, log = VirtualClock(), list[tuple[int, object]]()
    kept, dropped = (clock.call_at(1, logger(clock, log, name)) for name in ("kept", "dropped"))
    dropped.cancel()
    clock.run()
    kept.cancel()
    assert log == [(1, "kept")]
    assert clock.now_ns() == 1


def test_post_runs_now_after_what_is_due() -> None:
    clock, log = VirtualClock(), list[tuple[int, object]]()
    clock.call_at(7, lambda: clock.post(logger(clock, log, "posted")))
    clock.call_at(7, logger(clock, log, "due"))
    clock.call_at(8, logger(clock, log, "later"))
    clock.run()
    assert log == [(7, "due"), (7, "posted"), (8, "later")]


def test_run_until_stops_the_time_there_and_goes_on_from_there() -> None:
    clock, log = VirtualClock(), list[tuple[int, object]]()
    for time_ns in (5, 10, 15):
        clock.call_at(time_ns, logger(clock, log, time_ns))
    clock.run(10)
    assert clock.now_ns() == 10
    assert log == [(5, 5), (10, 10)]
    clock.run(12)
    assert clock.now_ns() == 12
    clock.run()
    assert log[-1] == (15, 15)


def test_stop_ends_the_run_after_the_present_event() -> None:
    clock, log = VirtualClock(), list[tuple[int, object]]()
    clock.call_at(1, clock.stop)
    clock.call_at(2, logger(clock, log, "after"))
    clock.run()
    assert not log
    clock.run()
    assert log == [(2, "after")]


def test_passed_knows_the_order_among_simultaneous_events() -> None:
    clock, seen = VirtualClock(), list[list[bool]]()
    others = [(RESULT, 0), (RESULT, 1), (RESULT, 2), (ARRIVAL, 0), (WAKE, 0)]
    clock.call_at(4, lambda: seen.append([clock.passed(*o) for o in others]), RESULT, 1)
    clock.call_at(4, lambda: seen.append([clock.passed(*o) for o in others]), WAKE, 0)
    clock.run()
    assert seen == [[True, True, False, False, False], [True] * 5]
