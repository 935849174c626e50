"""Times of collective operations among `ranks` devices, in nanoseconds; 0 for a single rank.

Sources: Thakur, Rabenseifner and Gropp, "Optimization of Collective Communication Operations in MPICH",
2005 (ring); one-shot and two-shot are the variants that serving engines use for small messages.
"""

from __future__ import annotations

from headway.timing.link import Link

_ONE_SHOT_RANKS = 8  # beyond one switched group, reading every peer directly is not offered


def ring_all_reduce_ns(link: Link, ranks: int, payload_bytes: float) -> float:
    """Bandwidth-optimal: 2(p-1) hops, each with 1/p of the payload."""
    if ranks <= 1:
        return 0.0
    hops = 2 * (ranks - 1)
    return hops * link.latency_ns + hops / ranks * payload_bytes * link.ns_per_byte


def tree_all_reduce_ns(link: Link, ranks: int, payload_bytes: float) -> float:
    """Double binary tree: latency grows with the logarithm, at full bandwidth."""
    if ranks <= 1:
        return 0.0
    depth = (ranks - 1).bit_length()
    return 2 * depth * link.latency_ns + 2 * payload_bytes * link.ns_per_byte


def one_shot_all_reduce_ns(link: Link, ranks: int, payload_bytes: float) -> float:
    """Every rank reads all others' payload: one hop."""
    if ranks <= 1:
        return 0.0
    return link.latency_ns + (ranks - 1) * payload_bytes * link.ns_per_byte


def two_shot_all_reduce_ns(link: Link, ranks: int, payload_bytes: float) -> float:
    """Reduce-scatter and all-gather, each in one hop."""
    if ranks <= 1:
        return 0.0
    return 2 * link.latency_ns + 2 * (ranks - 1) / ranks * payload_bytes * link.ns_per_byte


def all_reduce_ns(link: Link, ranks: int, payload_bytes: float) -> float:
    """The fastest algorithm for this size and number of ranks."""
    times = [
        ring_all_reduce_ns(link, ranks, payload_bytes),
        tree_all_reduce_ns(link, ranks, payload_bytes),
    ]
    if ranks <= _ONE_SHOT_RANKS:
        times.append(one_shot_all_reduce_ns(link, ranks, payload_bytes))
        times.append(two_shot_all_reduce_ns(link, ranks, payload_bytes))
    return min(times)


def all_gather_ns(link: Link, ranks: int, payload_bytes: float) -> float:
    """Every rank ends with the whole payload, of which it brought 1/p."""
    if ranks <= 1:
        return 0.0
    return link.latency_ns + (ranks - 1) / ranks * payload_bytes * link.ns_per_byte
