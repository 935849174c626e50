"""Llumnix: what its freeness counts, what it moves, and that equal lengths leave it nothing to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from random import Random

import pytest

from headway.clocks import VirtualClock
from headway.core import Enlist, Migrate, Report, Request, Retire, Slo
from headway.errors import OptionError
from headway.policies.control.llumnix import Llumnix
from headway.policies.freeness import freeness
from headway.policies.routing.llumnix import LlumnixDispatch
from headway.runtime.fleet_view import LiveFleetView
from headway.testing import Run, Setup, SmallWorkload, run_sim, small_workload
from headway.workload import Offered

FREE = Report(1, 4, 400, 0, 600, 1000, running=4, movable=((9, 50),))
# Three run and hold everything; the first in the queue lacks 40 blocks.
FULL = Report(
    1,
    4,
    400,
    1,
    2,
    1000,
    running=3,
    head_blocks=40,
    waiting_blocks=40,
    movable=((3, 30), (2, 10), (1, 20)),
)


def view_of(reports: Mapping[str, Report]) -> LiveFleetView:
    view = LiveFleetView(VirtualClock(), list(reports), Random(1), None)
    for name, report in reports.items():
        view.heard(name, report)
    return view


def test_the_head_of_the_queue_counts_with_its_whole_demand() -> None:
    assert freeness(FULL, lacking_blocks=40, more=1) == (2 - 40) / 4
    assert freeness(FREE, lacking_blocks=0) == 150


def test_the_shortest_moves_from_where_somebody_waits_to_the_freest() -> None:
    view = view_of({"i0": FREE._replace(free_blocks=300), "i1": FULL, "i2": FREE})
    assert Llumnix().tick(view) == [Migrate(2, "i2")]
    assert Llumnix(choice="longest").tick(view) == [Migrate(3, "i2")]


def test_a_request_that_moved_cools_down() -> None:
    control, view = Llumnix(), view_of({"i1": FULL, "i2": FREE})
    assert [control.tick(view) for _ in range(2)] == [[Migrate(2, "i2")], [Migrate(1, "i2")]]


def test_high_priority_moves_last_and_keeps_headroom() -> None:
    control = Llumnix(high_priority="gold", headroom=0.9)
    view = view_of({"i1": FULL, "i2": FREE})
    control.on_place(Request(2, 0, 1, 1, Slo("gold")), "i1")
    assert control.tick(view) == [Migrate(1, "i2")]
    control.on_place(Request(9, 0, 1, 1, Slo("gold")), "i2")
    assert control.tick(view) == [], "with its headroom taken the other is full too"
    control.on_end(Request(9, 0, 1, 1, Slo("gold")), "finished")
    assert control.tick(view) == [Migrate(3, "i2")]


def test_balanced_pairs_must_narrow_the_gap() -> None:
    nearly = FREE._replace(free_blocks=5, running=5)
    view = view_of({"i1": FULL._replace(movable=((3, 30),)), "i2": nearly})
    assert Llumnix(balanced=True, threshold=-3).tick(view) == []
    assert Llumnix(threshold=-3).tick(view) == [Migrate(3, "i2")]


def test_scaling_retires_the_emptiest_empties_it_and_brings_it_back() -> None:
    control = Llumnix(scale=True, scale_s=0)
    idle = FREE._replace(free_blocks=900, movable=((1, 3),))
    view = view_of({"i0": idle, "i1": idle})
    assert control.tick(view) == [Retire("i0"), Migrate(1, "i1")]
    view.remove("i0")
    view.heard("i1", FULL._replace(time_ns=2))
    assert Enlist("i0") in control.tick(view)


def test_dispatch_counts_what_no_report_has_seen() -> None:
    view = view_of({"i0": FREE, "i1": FREE})
    dispatch, request = LlumnixDispatch(), Request(7, 0, 4000, 10)
    assert dispatch.route(request, view) == "i0"
    view.sent("i0", request)
    assert dispatch.route(request, view) == "i1"


def test_unknown_choice_is_refused() -> None:
    with pytest.raises(OptionError, match="shortest"):
        Llumnix(choice="prettiest")


def one_sided(lengths: tuple[int, ...], control: object) -> Run:
    """Requests pile up on one of two instances; the other stays free."""
    offers = tuple(Offered(Request(n, n, 480, length), length) for n, length in enumerate(lengths))
    setup = Setup(
        control=control,  # type: ignore[arg-type]
        routing=type("First", (), {"route": lambda *_: "i0"}),
        instances=2,
        blocks=130,
        report_interval_ns=50_000_003,
    )
    run = run_sim(SmallWorkload(offers), setup)
    run.conserved()
    return run


def test_migration_removes_the_queue_behind_fragmented_memory() -> None:
    lengths = (900, 850, 800, 60, 60, 60)
    moved, stayed = one_sided(lengths, Llumnix), one_sided(lengths, "none")

    def last_first_token(run: Run) -> int:
        return max(times[0] for times in run.log.times_ns.values())

    assert last_first_token(moved) < last_first_token(stayed) / 3
    assert moved.instances[1].steps


def test_roomy_memory_leaves_it_nothing_to_do() -> None:
    workload = small_workload(1, 40, 20.0)
    setup = Setup(control="llumnix", routing="llumnix", instances=3, report_interval_ns=50_000_003)
    moved, none = run_sim(workload, setup), run_sim(workload, replace(setup, control="none"))
    assert moved.log.tokens == none.log.tokens


def test_control_conserves_while_it_scales() -> None:
    control = partial(Llumnix, scale=True, scale_s=0.2, cool_down_ms=0, threshold=5)
    for seed in range(3):
        workload = small_workload(seed, 40, 20.0, abort_share=0.2, streams=2, prefixes=True)
        setup = Setup(
            control=control, instances=3, blocks=150, report_interval_ns=50_000_003, seed=seed
        )
        run_sim(workload, setup, until_s=600).conserved()
