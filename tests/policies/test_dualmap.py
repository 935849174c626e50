"""DualMap: the ring, hot prefixes, the choice between two, and hotspot moves."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from random import Random

import pytest

from headway.clocks import VirtualClock
from headway.core import NS_PER_S, Migrate, Report, Request, Slo
from headway.policies.control.dualmap import DualMapMoves
from headway.policies.hash_ring import HashRing
from headway.policies.hot_prefixes import HotPrefixes
from headway.policies.routing.dualmap import DualMap, SentPrefixes
from headway.runtime.fleet_view import LiveFleetView
from headway.testing import Setup, run_sim, small_workload
from headway.workload import Offered

NAMES = [f"i{n}" for n in range(8)]
PACE = 1000.0  # prompt tokens per second, so that 5,000 are in time
KEYS = range(400)


def fleet(names: list[str] = NAMES) -> LiveFleetView:
    return LiveFleetView(VirtualClock(), names, Random(0), None)


def policy(**options: int) -> DualMap:
    return DualMap(tokens_per_s=PACE, **options)


def request(number: int, *extents: int, tokens: int = 1000, **fields: object) -> Request:
    """A prompt of so many tokens; every extent has 100."""
    prefix = tuple((extent, 100) for extent in extents)
    return Request(number, 0, tokens, 5, prefix=prefix, **fields)  # type: ignore[arg-type]


def place(dual: DualMap, view: LiveFleetView, placed: Request) -> str:
    name = dual.route(placed, view)
    view.sent(name, placed)
    dual.on_place(placed, name)
    return name


DIFFERENT = [request(n, n, n + 1000) for n in KEYS]  # nobody shares anything

# -- the ring --------------------------------------------------------------------------------------------------


def test_who_leaves_a_ring_changes_only_the_choices_that_contained_it() -> None:
    ring, gone = HashRing(NAMES), HashRing(NAMES[:-1])
    kept = [key for key in KEYS if "i7" not in ring.choices(key, 2)]
    assert all(ring.choices(key, 2) == gone.choices(key, 2) for key in kept)
    assert len(kept) > len(KEYS) / 2
    moved = [(ring.choices(key, 2), gone.choices(key, 2)) for key in KEYS if key not in set(kept)]
    assert all(set(before) - {"i7"} <= set(after) for before, after in moved)


def test_choices_differ_and_are_even() -> None:
    counts: Counter[str] = Counter()
    ring = HashRing(NAMES)
    for key in KEYS:
        choices = ring.choices(key, 2)
        assert len(set(choices)) == 2
        counts.update(choices)
    assert max(counts.values()) < 2 * min(counts.values())
    assert ring.choices(1, 20) == (*ring.choices(1, 8),)
    assert HashRing(["only"]).choices(1, 2) == ("only",)


def test_a_retired_instance_moves_only_what_it_had() -> None:
    view, dual = fleet(), policy()
    before = [dual.route(asked, view) for asked in DIFFERENT]
    view.remove("i3")
    without = [dual.route(asked, view) for asked in DIFFERENT]
    assert all(old == new for old, new in zip(before, without, strict=True) if old != "i3")
    assert "i3" not in without
    view.enlist("i3")
    assert [dual.route(asked, view) for asked in DIFFERENT] == before


# -- hot prefixes ----------------------------------------------------------------------------------------------


def test_a_hot_beginning_is_split_until_its_parts_are_cold_and_is_whole_again() -> None:
    tree = HotPrefixes(depth=2, window=100)
    keys = [tree.key(["s", "hot", "warm", f"own{n}"], 0.25) for n in range(100)]
    assert keys[0] == "hot"
    assert keys[-1] == "own99"
    shared = [tree.key(["s", "hot", f"part{n % 10}", f"own{n}"], 0.25) for n in range(200)]
    assert shared[-1] == "part9"
    for n in range(95):
        assert tree.key(["s", f"cold{n}", "more"], 0.25) == f"cold{n}"
    assert tree.key(["s", "hot", "warm"], 0.25) == "hot"


def test_short_prefixes_and_long_ones_have_keys() -> None:
    tree = HotPrefixes(depth=2, window=8, most_depth=4)
    assert tree.key(["one"], 0.1) == "one"
    for _ in range(20):
        key = tree.key(list("abcdefgh"), 0.1)
    assert key == "d"


# -- the choice --------------------------------------------------------------------------------------------------


def test_the_one_that_knows_more_gets_it_until_it_would_be_late() -> None:
    dual, view = policy(), fleet()
    first = place(dual, view, request(0, 1, 2, 3))
    homes = [place(dual, view, request(n, 1, 2, 3, 50 + n)) for n in range(1, 14)]
    assert homes[0] == first
    assert set(homes) == set(dual.placed[0].choices)
    switch = next(n for n, name in enumerate(homes) if name != first)
    assert 1000 + switch * 700 <= 5 * PACE < 1000 + (switch + 1) * 700


def test_a_loose_slo_keeps_affinity_and_a_strict_one_balances() -> None:
    def homes(ttft_s: float) -> Counter[str]:
        dual, view = policy(), fleet()
        slo = Slo(ttft_ns=round(ttft_s * NS_PER_S))
        return Counter(place(dual, view, request(n, 1, 2, 3, slo=slo)) for n in range(14))

    assert len(homes(1e6)) == 1
    assert max(homes(0.001).values()) <= 8


def test_without_shared_prefixes_the_shorter_of_two_queues_gets_it() -> None:
    dual, view = policy(), fleet()
    for n in range(200):
        place(dual, view, request(n))
    loads = [view.load(name) for name in NAMES]
    assert sum(loads) == 200
    assert max(loads) <= 2 + 200 / 8 * 1.5
    single, lonely = policy(choices=1), fleet()
    for n in range(200):
        place(single, lonely, request(n))
    assert max(lonely.load(name) for name in NAMES) > max(loads)


def test_tenants_share_no_prefix() -> None:
    dual, view = policy(), fleet()
    home = place(dual, view, request(0, 1, 2, tenant="a"))
    assert dual.tokens_left(request(1, 1, 2, tenant="a"), home) == 800
    assert dual.tokens_left(request(1, 1, 2, tenant="b"), home) == 1000


def test_an_instance_forgets_the_deepest_of_what_it_used_least() -> None:
    sent = SentPrefixes(800, 1000)
    sent.add([("a", 100), ("b", 100)])
    sent.add([(f"c{n}", 100) for n in range(6)])
    assert sent.known([("a", 100), ("b", 100)]) == 200
    sent.add([("d", 100)])
    assert sent.known([("a", 100), ("b", 100)]) == 0
    assert sent.known([("c0", 100)]) == 100


def test_a_report_replaces_what_was_sent_before_it() -> None:
    dual, view = policy(), fleet()
    home = place(dual, view, request(0, 1, 2))
    dual.pending_tokens(home, view)
    twin = request(1, 1, 2)
    assert place(dual, view, twin) == home
    assert dual.pending_tokens(home, view) == 1000 + 800
    view.heard(home, Report(1, 2, 2000, 1, 9, 9, queued_tokens=1300, queued=((1, 1000),)))
    assert dual.pending_tokens(home, view) == 300 + 800  # the twin finds its prefix there
    dual.on_end(twin, "finished")
    dual.on_end(twin, "finished")
    view.heard(home, Report(2, 0, 0, 0, 9, 9))
    assert dual.pending_tokens(home, view) == 0


# -- hotspot moves -------------------------------------------------------------------------------------------------


def crowded(count: int) -> tuple[DualMap, LiveFleetView, DualMapMoves, str, str]:
    """So many that waited in time when they came wait at one of two instances; the other is idle."""
    dual, view, control = policy(), fleet(["a", "b"]), DualMapMoves()
    control.meet(dual)
    slo = Slo(ttft_ns=10**6 * NS_PER_S)
    home = ""
    for n in range(count):
        home = place(dual, view, request(n, 1, 2, slo=slo))
    for placed in dual.placed.values():
        placed.due_ns = 5 * NS_PER_S
    queued = tuple((n, 1000) for n in range(count))
    view.heard(home, Report(1, count, 0, count, 9, 9, queued_tokens=1000 * count, queued=queued))
    return dual, view, control, home, "b" if home == "a" else "a"


def test_those_who_wait_longest_move_until_nobody_is_late() -> None:
    _, view, control, _, other = crowded(8)  # 1000 + 7 * 800 tokens; 5,000 are in time
    moves = control.tick(view)
    assert moves == [Migrate(7, other), Migrate(6, other)]


def test_nobody_moves_where_all_are_in_time_or_where_it_would_not_help() -> None:
    _, view, control, _, other = crowded(5)
    assert control.tick(view) == []
    dual, view, control, _, other = crowded(9)
    view.heard(other, Report(1, 1, 0, 0, 9, 9, queued_tokens=20_000))
    assert control.tick(view) == []
    dual.on_end(dual.placed[0].request, "finished")


def test_a_request_moves_once() -> None:
    _, view, control, _, _ = crowded(9)
    moved = [move.request_id for move in control.tick(view) if isinstance(move, Migrate)]
    again = [move.request_id for move in control.tick(view) if isinstance(move, Migrate)]
    assert moved
    assert not set(moved) & set(again)


def test_with_another_routing_nothing_moves() -> None:
    control = DualMapMoves()
    control.meet(object())
    assert control.tick(fleet()) == ()


@pytest.mark.parametrize("control", ["none", "dualmap"])
def test_everything_ends_and_the_books_are_empty(control: str) -> None:
    dual = DualMap()
    workload = small_workload(
        3, 60, 60.0, prompt_tokens=(500, 3000), prefixes=True, turns=1, tenants=2, abort_share=0.1
    )
    setup = Setup(routing=lambda: dual, control=control, instances=4)
    run = run_sim(workload, setup)
    run.conserved()
    assert run.fleet.control_error == ""
    assert not dual.placed
    assert not any(queue.since for queue in dual._queues.values())


def test_a_hotspot_is_relieved_and_everything_ends() -> None:
    """One prefix for all, which routing keeps together, and a strict SLO once they are there."""
    offers = [
        Offered(replace(request(n, 1, 2, tokens=2000), arrival_ns=n * 1000), 5) for n in range(12)
    ]
    dual, placed = DualMap(tokens_per_s=100.0, ttft_s=1e6), Counter[str]()
    hear = dual.on_place

    def on_place(asked: Request, instance: str) -> None:
        hear(asked, instance)
        dual.placed[asked.id].due_ns = 40 * NS_PER_S
        placed[instance] += 1

    dual.on_place = on_place  # type: ignore[method-assign, assignment]
    workload = replace(small_workload(0, 0), requests=tuple(offers))
    control = partial(DualMapMoves, period_ms=1.0)
    setup = Setup(
        routing=lambda: dual, control=control, instances=2, report_interval_ns=NS_PER_S // 1000
    )
    run = run_sim(workload, setup)
    run.conserved()
    assert max(placed.values()) == 12
    assert 1 <= min(placed.values()) <= 6
    assert set(run.log.ends.values()) == {"finished"}
