"""Scenarios with nodes: who is on which, what links them, and that equal links are as one link for all."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from typer.testing import CliRunner

from headway.api import Scenario
from headway.api.assembly import assemble
from headway.api.pools import pools_of
from headway.api.runner import run
from headway.api.topology_of import topology_of
from headway.cli.program import app
from headway.errors import OptionError, UnknownNameError
from headway.timing import Topology, load_device, load_link

BASE = Scenario(model="opt-13b", gpu="a100", requests=60, rate_rps=4.0, batching="prefill_first")
SPLIT = BASE.at(roles="prefill:2,decode:2", routing="distserve")


def topology(scenario: Scenario) -> Topology:
    found = topology_of(scenario, pools_of(scenario), load_device(scenario.gpu))
    assert found is not None
    return found


def test_each_role_is_dealt_out_to_the_nodes_in_turn() -> None:
    scenario = SPLIT.at(roles="prefill:3,decode:1,decode:1@2", nodes=2)
    assert topology(scenario).nodes == {"i0": 0, "i1": 1, "i2": 0, "i3": 0, "i4": 1}
    assert topology(BASE.at(instances=4, nodes=4)).nodes == {f"i{n}": n for n in range(4)}
    assert topology_of(SPLIT, pools_of(SPLIT), load_device("a100")) is None


def test_links_are_the_devices_own_unless_named() -> None:
    device = load_device("a100")
    found = topology(SPLIT.at(nodes=2))
    assert (found.node_link, found.link) == (device.scale_up, device.network)
    found = topology(SPLIT.at(nodes=2, link="25gbe", node_link="pcie4"))
    assert (found.node_link, found.link) == (load_link("pcie4"), load_link("25gbe"))


@pytest.mark.parametrize("link", ["nvlink3", "25gbe"])
@pytest.mark.parametrize(
    "more", [{}, {"roles": "prefill:2@2,decode:2"}, {"memory": "swap"}], ids=str
)
def test_equal_links_are_one_link_for_all(link: str, more: dict[str, str]) -> None:
    scenario = SPLIT.at(link=link, **more)
    plain = run(scenario).summary
    for nodes in (1, 2):
        for options in ({}, {"routing.pair": False}):
            equal = scenario.at(nodes=nodes, node_link=link, options=options)
            assert run(equal).summary == plain


def test_pairing_spares_the_second_token_a_slow_network_and_faster_networks_need_it_less() -> None:
    gains = []
    for link in ("10gbe", "25gbe", "ndr400", "nvlink3"):
        slow = SPLIT.at(nodes=2, link=link, node_link="nvlink3")
        paired, blind = (
            run(slow.at(options={"routing.pair": pair})).summary["mean_tpot_ms"]
            for pair in (True, False)
        )
        gains.append(blind / paired)
    assert gains[0] > 1.1
    assert gains[-1] == 1
    assert all(slower > faster for slower, faster in pairwise(gains[:3]))


def test_policies_are_told_the_bandwidth_and_without_nodes_all_are_alike() -> None:
    view = assemble(SPLIT.at(nodes=2)).simulation.fleet.view
    assert view.bytes_per_s("i0", "i2") > view.bytes_per_s("i0", "i3") > 0
    plain = assemble(SPLIT).simulation.fleet.view
    assert plain.bytes_per_s("i0", "i2") == plain.bytes_per_s("i0", "i3") == float("inf")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"nodes": 3}, OptionError, "no role has instances for more than 2: give fewer nodes"),
        ({"nodes": 0}, OptionError, "nodes is 0: give 1 or more"),
        ({"node_link": "nvlink3"}, OptionError, "say how many nodes"),
        ({"nodes": 2, "node_link": "nvlink33"}, UnknownNameError, "did you mean nvlink3"),
        (
            {"nodes": 1, "roles": "prefill:5,decode:4"},
            OptionError,
            "9 devices and nvlink3 joins 8: give more nodes, or name a node_link",
        ),
    ],
)
def test_nodes_that_cannot_be_are_refused(
    change: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        run(SPLIT.at(**change))


def test_flags_reach_the_scenario() -> None:
    flags = (
        "simulate --requests 5 --instances 2 --nodes 2 --link 25gbe --node-link nvlink4 --json -"
    )
    done = CliRunner().invoke(app, flags.split())
    assert done.exit_code == 0, done.output
    config = json.loads(done.output)["config"]
    assert (config["nodes"], config["link"], config["node_link"]) == (2, "25gbe", "nvlink4")
