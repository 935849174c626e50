"""Which instance, and whether at all."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from headway.clocks import VirtualClock
from headway.core import FleetView, Request, Stage
from headway.policies.admission.bounded_queue import BoundedQueue
from headway.policies.admission.stream_utilisation import StreamUtilisation
from headway.policies.admission.unbounded import Unbounded
from headway.policies.routing.least_work import LeastWork
from headway.policies.routing.prefix_affinity import PrefixAffinity
from headway.policies.routing.round_robin import RoundRobin
from headway.policies.routing.two_choices import TwoChoices
from headway.runtime.fleet_view import LiveFleetView
from headway.testing import StepTimes


def fleet(*loads: int, seed: int = 0, predicts: bool = True) -> LiveFleetView:
    """Instances a, b, c… with that many requests each."""
    names = "abcdefgh"[: len(loads)]
    timing = StepTimes() if predicts else None
    view = LiveFleetView(VirtualClock(), list(names), Random(seed), timing)
    for name, load in zip(names, loads, strict=True):
        for number in range(load):
            view.sent(name, Request(number, 0, 10, 5))
    return view


def request(number: int = 0, **fields: object) -> Request:
    return Request(number, 0, 100, 5, **fields)  # type: ignore[arg-type]


def test_round_robin_takes_turns_whatever_the_load() -> None:
    policy, view = RoundRobin(), fleet(9, 0, 0)
    assert "".join(policy.route(request(), view) for _ in range(7)) == "abcabca"


def test_round_robin_goes_on_when_an_instance_leaves() -> None:
    policy, view = RoundRobin(), fleet(0, 0, 0)
    routed = [policy.route(request(), view) for _ in range(2)]
    view.remove("b")
    routed += [policy.route(request(), view) for _ in range(4)]
    assert "b" not in routed[2:]
    assert set(routed[2:]) == {"a", "c"}


def test_least_work_picks_the_least_and_ties_go_to_the_first() -> None:
    assert LeastWork().route(request(), fleet(3, 1, 2)) == "b"
    assert LeastWork().route(request(), fleet(2, 1, 1)) == "b"


def test_least_work_counts_what_it_is_told_to() -> None:
    view = fleet(2, 0)
    view.sent("b", Request(7, 0, 5000, 5))
    assert LeastWork("requests").route(request(), view) == "b"
    assert LeastWork("prompt_tokens").route(request(), view) == "a"


def test_two_choices_depend_on_the_seed_alone() -> None:
    def routes(seed: int) -> list[str]:
        view = fleet(*[1] * 8, seed=seed)
        return [TwoChoices().route(request(), view) for _ in range(20)]

    assert routes(1) == routes(1)
    assert len({tuple(routes(seed)) for seed in range(5)}) == 5


def test_two_choices_never_take_the_worst_and_do_not_always_take_the_best() -> None:
    view = fleet(0, 1, 2, 3)
    counts = Counter(TwoChoices().route(request(), view) for _ in range(600))
    assert counts["d"] == 0
    assert counts["a"] > counts["b"] > counts["c"] > 0  # chances 3/6, 2/6, 1/6


def test_two_choices_among_two_is_least_work() -> None:
    assert TwoChoices().route(request(), fleet(3, 1)) == "b"


def test_prefix_affinity_sticks_to_where_the_prefix_went() -> None:
    policy, view = PrefixAffinity(), fleet(0, 0, 0)
    first = policy.route(request(prefix=((1, 50),), next_extent=2), view)
    for number in range(20):
        view.sent(first, request(number))
    assert policy.route(request(1, prefix=((1, 50), (9, 20))), view) == first
    assert policy.route(request(2, prefix=((1, 50), (2, 20), (3, 9))), view) == first
    assert policy.route(request(3, prefix=((4, 50),)), view) != first
    assert policy.route(request(4, prefix=((1, 50),), tenant="other"), view) != first


def test_prefix_affinity_with_a_guard_relieves_a_crowded_instance() -> None:
    policy, view = PrefixAffinity(load_guard=1.5, slack=2), fleet(0, 0, 0)
    hot = request(prefix=((1, 50),))
    routes = []
    for _ in range(60):
        name = policy.route(hot, view)
        view.sent(name, hot)
        routes.append(name)
    assert len(set(routes)) == 3
    assert max(Counter(routes).values()) < 40


def test_prefix_affinity_forgets_the_oldest_and_instances_that_left() -> None:
    policy, view = PrefixAffinity(entries=8), fleet(0, 1, 2)
    for extent in range(100):
        policy.route(request(prefix=((extent, 50),)), view)
        assert len(policy._sent) <= 8
    for _ in range(3):
        view.sent("a", request())  # now "b" has the least work
    assert policy.route(request(prefix=((99, 50),)), view) == "a"
    assert policy.route(request(prefix=((0, 50),)), view) == "b"
    view.remove("a")
    assert policy.route(request(prefix=((98, 50),)), view) == "b"


def test_unbounded_accepts() -> None:
    assert Unbounded().admit(request(), fleet(10_000)) is None


@pytest.mark.parametrize(("loads", "accepted"), [((3, 4), True), ((4, 4), False), ((9, 0), False)])
def test_bounded_queue_counts_the_fleet(loads: tuple[int, int], *, accepted: bool) -> None:
    why_not = BoundedQueue(4).admit(request(), fleet(*loads))
    assert (why_not is None) == accepted
    assert why_not is None or "at most 8" in why_not


def stream(number: int, period_ms: int = 40) -> Request:
    return request(number, stages=(Stage(period_ns=period_ms * 1_000_000, unit_tokens=8),))


def admitted(view: LiveFleetView, policy: StreamUtilisation, requests: list[Request]) -> int:
    count = 0
    for each in requests:
        if policy.admit(each, view) is None:
            view.sent(view.least_loaded(), each)
            count += 1
    return count


def test_streams_are_refused_when_a_step_for_all_of_them_outlasts_the_period() -> None:
    policy = StreamUtilisation()
    streams = [stream(n) for n in range(100)]
    count = admitted(fleet(0), policy, streams)
    view: FleetView = fleet(0)
    _, context, _ = view.stream_demand(streams[0])
    timing = StepTimes()
    assert timing.chunk_time_ns(9 * count, context * count) <= 40_000_000
    assert timing.chunk_time_ns(9 * (count + 1), context * (count + 1)) > 40_000_000
    half = admitted(fleet(0), StreamUtilisation(0.5), streams)
    assert 0 < half < count
    assert admitted(fleet(0, 0), policy, [stream(n) for n in range(200)]) == pytest.approx(
        2 * count, abs=2
    )


def test_a_faster_stream_tightens_the_period_for_all_until_it_ends() -> None:
    policy, view = StreamUtilisation(), fleet(0)
    fast = stream(500, 12)
    view.sent("a", fast)
    assert admitted(view, policy, [stream(n) for n in range(100)]) < 10
    assert policy.admit(stream(600), view) is not None
    view.ended("a", fast)
    assert policy.admit(stream(600), view) is None


def test_requests_that_are_no_streams_and_worlds_without_predictions_are_accepted() -> None:
    policy, full = StreamUtilisation(), fleet(0)
    admitted(full, policy, [stream(n) for n in range(100)])
    assert policy.admit(request(), full) is None
    assert admitted(fleet(0, predicts=False), policy, [stream(n) for n in range(100)]) == 100
