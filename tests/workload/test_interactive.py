"""Workloads that answer ends with offers: closed loops and sessions, played against a toy server."""

import heapq
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from headway.core import NS_PER_S, Request, Slo
from headway.core.fleet import ABORTED, FINISHED_OK
from headway.core.protocols import Offer, Workload
from headway.errors import OptionError
from headway.workload import (
    AtOnce,
    ClosedLoop,
    Fixed,
    Independent,
    Merged,
    Poisson,
    Sessions,
    SloClasses,
    Synthetic,
    Tenants,
    Think,
    Uniform,
)
from headway.workload.sessions import SYSTEM_EXTENT


class Played:
    """Serves every offer in a random time, and keeps what it saw."""

    def __init__(self, workload: Workload, seed: int = 0, *, abort: float = 0.0) -> None:
        self.offers: list[Offer] = []
        self.ends: dict[int, int] = {}
        self.most_in_flight = 0
        rng = Random(seed)
        stream = workload.offers()
        waiting = next(stream, None)
        coming: list[tuple[int, int, Offer]] = []  # offered by ends
        serving: list[tuple[int, int, Request]] = []
        while waiting or coming or serving:
            open_ns = waiting.request.arrival_ns if waiting else float("inf")
            next_ns = coming[0][0] if coming else float("inf")
            end_ns = serving[0][0] if serving else float("inf")
            if end_ns < min(open_ns, next_ns):
                now_ns, _, request = heapq.heappop(serving)
                self.ends[request.id] = now_ns
                outcome = ABORTED if rng.random() < abort else FINISHED_OK
                for offer in workload.on_end(request, outcome, now_ns):
                    assert offer.request.arrival_ns >= now_ns
                    item = (offer.request.arrival_ns, offer.request.id, offer)
                    heapq.heappush(coming, item)
                continue
            if waiting and open_ns <= next_ns:
                offer = waiting
                waiting = next(stream, None)
            else:
                _, _, offer = heapq.heappop(coming)
            self.offers.append(offer)
            request = offer.request
            end_ns = request.arrival_ns + rng.randint(1, NS_PER_S)
            heapq.heappush(serving, (end_ns, request.id, request))
            self.most_in_flight = max(self.most_in_flight, len(serving))

    def sessions(self) -> dict[int | None, list[Offer]]:
        found: dict[int | None, list[Offer]] = {}
        for offer in self.offers:
            found.setdefault(offer.request.session, []).append(offer)
        return found


SMALL = Independent(Uniform(1, 50), Uniform(1, 20))


@settings(max_examples=30)
@given(st.integers(1, 20), st.integers(0, 60), st.integers(0, 1000))
def test_a_closed_loop_offers_all_and_never_exceeds_its_concurrency(
    concurrency: int, requests: int, seed: int
) -> None:
    loop = ClosedLoop(Synthetic(AtOnce(), SMALL), concurrency, requests)
    played = Played(loop, seed)
    ids = [offer.request.id for offer in played.offers]
    assert ids == list(range(requests))
    assert played.most_in_flight == min(concurrency, requests)
    starts = sorted(offer.request.arrival_ns for offer in played.offers)
    burst = min(concurrency, requests)
    assert starts[:burst] == [0] * burst
    # Every later offer comes at the moment of an end.
    assert starts[burst:] == sorted(played.ends.values())[: requests - burst]


def test_a_closed_loop_starts_anew_with_each_call_and_goes_on_after_failures() -> None:
    loop = ClosedLoop(Synthetic(AtOnce(), SMALL, requests=30), 4)
    first, second = Played(loop, abort=0.5), Played(loop, abort=0.5)
    assert len(first.offers) == 30
    assert first.offers == second.offers


def test_a_closed_loop_of_sessions_keeps_its_users_through_their_turns() -> None:
    sessions = Sessions(AtOnce(), turns=Fixed(3), shapes=SMALL, think=Think(0, 0.5), sessions=10)
    played = Played(ClosedLoop(sessions, 2))
    assert len(played.offers) == 30
    assert played.most_in_flight <= 2
    ids = [offer.request.id for offer in played.offers]
    assert sorted(ids) == list(range(30))


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(0, 100))
def test_turns_conserve_tokens_and_chain_their_hashes(seed: int, system_tokens: int) -> None:
    workload = Sessions(
        Poisson(2.0),
        turns=Uniform(1, 6),
        shapes=SMALL,
        sessions=15,
        system_tokens=system_tokens,
        seed=seed,
    )
    played = Played(workload, seed)
    assert workload.live_sessions == 0
    names: set[int] = set()
    for turns in played.sessions().values():
        prompt_tokens = system_tokens
        before: Offer | None = None
        for offer in turns:
            request = offer.request
            assert sum(tokens for _, tokens in request.prefix) == request.prompt_tokens
            if before is None:
                assert len(request.prefix) == 1 + bool(system_tokens)
            else:
                answered = (before.request.next_extent, before.output_tokens)
                assert request.prefix[:-1] == (*before.request.prefix, answered)
                prompt_tokens += before.output_tokens
                assert request.arrival_ns > played.ends[before.request.id]
            prompt_tokens += request.prefix[-1][1]
            assert request.prompt_tokens == prompt_tokens
            new = {request.prefix[-1][0], request.next_extent}
            assert not new & names  # nobody else's
            assert SYSTEM_EXTENT not in new
            names |= new  # type: ignore[arg-type]
            before = offer
    assert sorted(o.request.id for o in played.offers) == list(range(len(played.offers)))


def shape_of(played: Played) -> list[list[tuple[int, int]]]:
    sessions = sorted(played.sessions().items(), key=str)
    return [[(o.request.prompt_tokens, o.output_tokens) for o in turns] for _, turns in sessions]


def test_sessions_are_the_same_however_fast_they_are_served() -> None:
    workload = Sessions(Poisson(2.0), shapes=SMALL, sessions=30)
    assert shape_of(Played(workload, seed=1)) == shape_of(Played(workload, seed=2))


def test_a_session_ends_with_a_turn_that_does_not_finish() -> None:
    workload = Sessions(Poisson(2.0), turns=Fixed(4), shapes=SMALL, sessions=200)
    played = Played(workload, abort=0.5)
    lengths = [len(turns) for turns in played.sessions().values()]
    assert lengths.count(1) == pytest.approx(100, abs=25)
    assert sum(lengths) == pytest.approx(200 * 1.875, rel=0.15)
    assert workload.live_sessions == 0


def test_a_session_ends_before_it_outgrows_the_context() -> None:
    shapes = Independent(Fixed(30), Fixed(10))
    workload = Sessions(Poisson(1), turns=Fixed(9), shapes=shapes, sessions=3, context_tokens=120)
    turns = list(Played(workload).sessions().values())
    assert [len(t) for t in turns] == [3, 3, 3]
    assert all(o.request.prompt_tokens + o.output_tokens <= 120 for t in turns for o in t)


def test_users_think_as_long_as_bailians() -> None:
    workload = Sessions(Poisson(100), turns=Fixed(2), shapes=SMALL, sessions=4000)
    played = Played(workload)
    gaps = sorted(
        second.request.arrival_ns - played.ends[first.request.id]
        for first, second in played.sessions().values()
    )
    assert gaps[2000] / NS_PER_S == pytest.approx(124, rel=0.1)
    assert gaps[3600] / NS_PER_S == pytest.approx(615, rel=0.15)  # exp(4.82 + 1.25 · 1.28)


def test_an_end_nobody_waits_for_offers_nothing() -> None:
    workload = Sessions(Poisson(1), sessions=1)
    assert workload.on_end(Request(5, 0, 1, 1, session=99), FINISHED_OK, 0) == ()
    assert workload.on_end(Request(5, 0, 1, 1), FINISHED_OK, 0) == ()
    assert Merged([workload]).on_end(Request(5, 0, 1, 1), FINISHED_OK, 0) == ()


def test_turns_of_a_session_keep_tenant_and_class() -> None:
    from_all = Sessions(Poisson(2.0), turns=Uniform(1, 5), shapes=SMALL, sessions=60)
    classes = [(Slo(name), 1.0) for name in "abc"]
    played = Played(SloClasses(Tenants.skewed(from_all, 5, skew=0), classes))
    assert len(played.offers) > 120
    for turns in played.sessions().values():
        assert len({(o.request.tenant, o.request.slo.name) for o in turns}) == 1
    assert len({o.request.tenant for o in played.offers}) == 5


def test_merged_workloads_keep_order_sessions_and_ids_apart() -> None:
    parts = [
        Sessions(Poisson(2.0), shapes=SMALL, sessions=20, system_tokens=7, seed=k) for k in range(3)
    ]
    merged = Merged([*parts, ClosedLoop(Synthetic(AtOnce(), SMALL), 2, 9)])
    played = Played(merged)
    assert sorted(o.request.id for o in played.offers) == list(range(len(played.offers)))
    own = [shape_of(Played(part)) for part in parts]
    sessions = played.sessions()
    assert len(sessions.pop(None)) == 9
    both = sorted(turns for shape in own for turns in shape)
    found = [[(o.request.prompt_tokens, o.output_tokens) for o in t] for t in sessions.values()]
    assert sorted(found) == both
    systems = {turns[0].request.prefix[0][0] for turns in sessions.values()}
    assert len(systems) == 3
    for turns in sessions.values():
        for before, after in pairwise(turns):
            answered = (before.request.next_extent, before.output_tokens)
            assert after.request.prefix[:-1] == (*before.request.prefix, answered)


def test_impossible_loops_and_sessions_are_refused() -> None:
    with pytest.raises(OptionError, match="concurrency is 0"):
        ClosedLoop(Synthetic(AtOnce()), 0)
    with pytest.raises(OptionError, match="system_tokens is -1"):
        Sessions(Poisson(1), system_tokens=-1)
    with pytest.raises(OptionError, match="context_tokens"):
        Sessions(Poisson(1), context_tokens=0)
    with pytest.raises(OptionError, match="max_tokens is 0"):
        Sessions(Poisson(1), max_tokens=0)
