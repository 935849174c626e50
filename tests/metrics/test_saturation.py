from __future__ import annotations

import random

from headway.core import NS_PER_S
from headway.metrics import offered_exceeds_capacity

from .runs import Run


def queue(
    rate_rps: float,
    service_s: float,
    *,
    seed: int = 1,
    requests: int = 600,
    most_waiting: int | None = None,
) -> Run:
    """Serve one at a time, in order; turn away whoever would make the queue longer than `most_waiting`."""
    rng, run = random.Random(seed), Run()
    arrival = free = 0.0
    for _ in range(requests):
        arrival += rng.expovariate(rate_rps)
        sequence = run.offer(1000 * arrival)
        if most_waiting is not None and free - arrival > most_waiting * service_s:
            run.reject(sequence)
            continue
        start = max(arrival, free)
        free = start + rng.expovariate(1 / service_s)
        sequence.started_ns = round(start * NS_PER_S)
        run.answer(sequence, [1000 * (start + free) / 2, 1000 * free])
    return run


def test_a_system_that_keeps_up_gets_no_verdict() -> None:
    for seed in range(10):
        assert offered_exceeds_capacity(queue(5.0, 0.1, seed=seed).recorder) is None


def test_a_growing_backlog_is_told() -> None:
    for seed in range(10):
        verdict = offered_exceeds_capacity(queue(13.0, 0.1, seed=seed).recorder)
        assert verdict is not None
        assert "exceeds capacity" in verdict


def test_turning_requests_away_is_told_though_no_queue_grows() -> None:
    verdict = offered_exceeds_capacity(queue(15.0, 0.1, most_waiting=3).recorder)
    assert verdict is not None
    assert "turned away" in verdict


def test_long_answers_in_a_short_run_are_no_overload() -> None:
    run = Run()
    for index in range(100):
        sequence = run.offer(10 * index)
        sequence.started_ns = sequence.request.arrival_ns + 1000
        run.answer(sequence, [10 * index + 50, 10 * index + 9000])
    assert offered_exceeds_capacity(run.recorder) is None


def test_too_few_requests_say_nothing() -> None:
    assert offered_exceeds_capacity(queue(50.0, 1.0, requests=10).recorder) is None
