"""Fleets on nodes: pairing by bandwidth shortens transfers, changes nothing on equal links, and loses nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

from hypothesis import given, settings, strategies as st

from headway.core import FleetView, Migrate, Request
from headway.core.fleet import DECODE, MIXED, PREFILL
from headway.core.plan import Transfer
from headway.core.protocols import TimingModel
from headway.policies.routing.distserve import DistServe
from headway.testing import Run, Setup, SmallWorkload, run_sim, small_workload
from headway.timing import Linked, Topology, load_link
from headway.workload import Offered

SHAPES = (  # roles and nodes; every node that prefills decodes too
    ((PREFILL, PREFILL, DECODE, DECODE), (0, 1, 0, 1)),
    ((PREFILL, PREFILL, PREFILL, DECODE, DECODE), (0, 1, 1, 1, 0)),
    ((PREFILL, PREFILL, DECODE, DECODE, DECODE, DECODE), (0, 1, 0, 0, 1, 1)),
    ((PREFILL, DECODE, DECODE), (0, 1, 0)),
)


class _Heard(Linked):
    """Notes what transfers took."""

    def __init__(self, setup: Nodes, n: int) -> None:
        assert setup.topology is not None
        super().__init__(setup.timing, f"i{n}", setup.topology, setup.block_bytes)
        self._heard = setup.heard

    def transfer_ns(self, transfer: Transfer) -> int:
        took_ns = super().transfer_ns(transfer)
        self._heard.append((transfer.peer, self._instance, took_ns))
        return took_ns


@dataclass(frozen=True)
class Nodes(Setup):
    """A setup that keeps (from, to, nanoseconds) of all transfers between instances."""

    heard: list[tuple[str, str, int]] = field(default_factory=list)

    def timing_of(self, n: int) -> TimingModel:
        return _Heard(self, n)

    @property
    def moved_ns(self) -> int:
        return sum(took_ns for _, _, took_ns in self.heard)


def nodes(roles: tuple[str, ...], at: tuple[int, ...], *, pair: bool = True, inside: str = "nvlink4",
          between: str = "10gbe") -> Nodes:  # fmt: skip
    where = {f"i{n}": node for n, node in enumerate(at)}
    topology = Topology(where, load_link(inside), load_link(between))
    routing = partial(DistServe, pair=pair)
    return Nodes(
        "prefill_first", routing=routing, instances=len(roles), roles=roles, topology=topology
    )


def told(run: Run) -> tuple[object, ...]:
    run.conserved()
    assert not vars(run.fleet.routing).get("_where"), "requests that ended are remembered"
    return run.log.times_ns, run.log.ends_ns, run.log.ends


@settings(max_examples=12)
@given(st.integers(0, 9999), st.sampled_from(SHAPES), st.sampled_from((4.0, 25.0, 80.0)))
def test_pairing_never_moves_for_longer(
    seed: int, shape: tuple[tuple[str, ...], tuple[int, ...]], rate_rps: float
) -> None:
    workload = small_workload(seed, 30, rate_rps, prefixes=True)
    paired, blind = nodes(*shape), nodes(*shape, pair=False)
    told(run_sim(workload, paired))
    told(run_sim(workload, blind))
    assert len(paired.heard) == len(blind.heard) > 0
    assert paired.moved_ns <= blind.moved_ns


@settings(max_examples=10)
@given(st.integers(0, 9999), st.sampled_from(SHAPES), st.sampled_from(("nvlink4", "10gbe")))
def test_equal_links_leave_pairing_nothing_to_do(
    seed: int, shape: tuple[tuple[str, ...], tuple[int, ...]], link: str
) -> None:
    workload = small_workload(seed, 30, 25.0, abort_share=0.2)
    runs = [
        run_sim(workload, nodes(*shape, pair=pair, inside=link, between=link))
        for pair in (True, False)
    ]
    assert told(runs[0]) == told(runs[1])


@settings(max_examples=12)
@given(
    st.integers(0, 9999),
    st.sampled_from(SHAPES),
    st.sampled_from((130, 300, 5_000)),
    st.sampled_from(("recompute", "swap")),
)
def test_fleets_on_nodes_conserve_and_repeat_themselves(
    seed: int, shape: tuple[tuple[str, ...], tuple[int, ...]], blocks: int, memory: str
) -> None:
    workload = small_workload(seed, 30, 25.0, streams=2, abort_share=0.3, prefixes=True, turns=1)
    setup = replace(nodes(*shape), blocks=blocks, memory=memory)
    first = told(run_sim(workload, setup, until_s=600))
    assert first == told(run_sim(workload, setup, until_s=600))
    assert first == told(run_sim(workload, replace(setup, leap=False), until_s=600))


def test_kv_stays_on_its_node_and_load_decides_within_it() -> None:
    setup = nodes(*SHAPES[2])
    told(run_sim(small_workload(1, 60, 40.0), setup))
    home = {"i0": {"i2", "i3"}, "i1": {"i4", "i5"}}
    assert {source: {to for one, to, _ in setup.heard if one == source} for source in home} == home
    blind = nodes(*SHAPES[2], pair=False)
    told(run_sim(small_workload(1, 60, 40.0), blind))
    assert blind.moved_ns > 10 * setup.moved_ns


def test_a_node_without_decode_hands_over_to_the_least_loaded_elsewhere() -> None:
    setup = nodes((PREFILL, DECODE, DECODE), (0, 1, 2))
    told(run_sim(small_workload(1, 60, 40.0), setup))
    assert {to for _, to, _ in setup.heard} == {"i1", "i2"}


class _Lopsided(DistServe):
    """Fills node 0; only the last request goes to node 1."""

    def route(self, request: Request, view: FleetView) -> str:
        del view
        return "i1" if request.id == 99 else "i0"


def test_a_crowd_that_waits_on_one_node_is_not_in_the_way_of_another() -> None:
    crowd = [Offered(Request(n, n, 160, 600), 600) for n in range(99)]
    late = Offered(Request(99, 3_000_000_000, 160, 4), 4)
    crowded = replace(nodes(*SHAPES[0]), routing=_Lopsided, blocks=500)
    alone = replace(nodes(*SHAPES[0]), routing=_Lopsided, blocks=500)
    run = run_sim(SmallWorkload((*crowd, late)), crowded)
    times = run.log.times_ns
    assert sum(times[n][0] < times[99][0] < times[n][1] for n in range(99)) > 40, "a crowd waits"
    assert times[99] == run_sim(SmallWorkload((late,)), alone).log.times_ns[99]


class _Away:
    """Control that moves request 0 from i0 to another instance, once."""

    period_ns = 200_000_000

    def __init__(self, to: str) -> None:
        self._to = to

    def tick(self, view: FleetView) -> list[Migrate]:
        to, self._to = self._to, ""
        return [Migrate(0, to)] if to and view.now_ns else []


class _First:
    def route(self, request: Request, view: FleetView) -> str:
        del request
        return view.instances[0]


def test_a_migration_takes_the_time_of_its_pair() -> None:
    workload = SmallWorkload((Offered(Request(0, 0, 2000, 300), 300),))
    took: dict[str, int] = {}
    for to in ("i1", "i2"):
        setup = replace(
            nodes((MIXED, MIXED, MIXED), (0, 0, 1)), routing=_First, control=partial(_Away, to)
        )
        told(run_sim(workload, setup))
        assert {(one, other) for one, other, _ in setup.heard} == {("i0", to)}
        took[to] = setup.moved_ns
    assert took["i1"] * 10 < took["i2"]
