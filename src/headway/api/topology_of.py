"""The nodes of a scenario: each role's instances are dealt out to them in turn, and links join them.

Source: the placement for slow networks of Zhong et al., "DistServe: Disaggregating Prefill and Decoding for
Goodput-optimized Large Language Model Serving", OSDI 2024: both phases on every node, so that KV stays there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as Seq

from headway.api.pools import PoolText
from headway.api.scenario import Scenario
from headway.errors import OptionError
from headway.timing import DeviceSheet, Topology, load_link


def topology_of(scenario: Scenario, written: Seq[PoolText], device: DeviceSheet) -> Topology | None:
    """Read `nodes`, `link` and `node_link`; None where one link joins all instances.

    Raises:
        UnknownNameError: no such link.
        OptionError: a node without instances, or with more devices than its link joins.
    """
    if scenario.nodes is None:
        return None
    each = [pool for pool in written for _ in range(pool.instances)]
    dealt, devices, nodes = Counter[str](), Counter[int](), dict[str, int]()
    for n, pool in enumerate(each):
        node = nodes[f"i{n}"] = dealt[pool.role] % scenario.nodes
        dealt[pool.role] += 1
        devices[node] += pool.tp
    if len(devices) < scenario.nodes:
        raise OptionError(
            f"nodes is {scenario.nodes}, and no role has instances for more than {len(devices)}: "
            "give fewer nodes, or more instances"
        )
    if scenario.node_link is None and max(devices.values()) > device.max_scale_up:
        raise OptionError(
            f"a node has {max(devices.values())} devices and {device.scale_up.name} joins {device.max_scale_up}: "
            "give more nodes, or name a node_link"
        )
    inside = device.scale_up if scenario.node_link is None else load_link(scenario.node_link)
    between = device.network if scenario.link is None else load_link(scenario.link)
    return Topology(nodes, inside, between)
