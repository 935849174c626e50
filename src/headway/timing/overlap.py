"""How long a step takes whose batch is cut into nano-batches, so that kernels of different resources run at once.

A matrix product needs all processors of the device; a kernel that waits for memory or for the network reaches its full
speed on a part of them (`DeviceSheet.memory_kernel_share`, `network_kernel_share`), which the matrix products lose
meanwhile. With T the time of all layers:

    T = max(products + memory_share · attention reads + network_share · all-reduces,   processors
            weights read once a nano-batch + attention reads,                          memory
            all-reduces,                                                               network
            (products + attention + all-reduces) / nano-batches)                       one nano-batch alone

Shares of 1 are a device that overlaps nothing: then cutting the batch only costs, for weights are read again.

Source: Zhu et al., "NanoFlow: Towards Optimal Large Language Model Serving Throughput", OSDI 2025. Differs: one formula
in place of the profiled pairwise interference and the searched schedule; a kernel's speed is linear in its processors
up to its share (the profiled curves are concave: ours overlaps less).
"""

from __future__ import annotations

from typing import NamedTuple


class LayerTimes(NamedTuple):
    """Of all layers of a step in nano-batches, in nanoseconds, each as if alone on the device."""

    products_ns: float  # linear layers; not less than `weights_ns`
    weights_ns: float  # reading their weights, once for each nano-batch
    reduces_ns: float  # all-reduces
    kernels_ns: float  # gaps between kernels, of the step as one batch


def nano_ns(
    times: LayerTimes, attend_flop_ns: float, attend_move_ns: float, parts: int,
    memory_share: float, network_share: float,
) -> float:  # fmt: skip
    """All layers; attention is given as its arithmetic and its memory traffic."""
    products, weights, reduces, kernels = times
    attend = max(attend_flop_ns, attend_move_ns)
    processors = products + max(attend_flop_ns, memory_share * attend_move_ns)
    processors += network_share * reduces
    alone = (products + attend + reduces) / parts
    longest = max(processors, weights + attend_move_ns, reduces, alone)
    return longest + (kernels if min(memory_share, network_share) < 1 else parts * kernels)
