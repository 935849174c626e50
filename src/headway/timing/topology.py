"""Which instances share a node, and what KV takes between them: over the link inside a node, or between nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headway.core import Step, Transfer
from headway.core.protocols import TimingModel
from headway.timing.link import Link

_HOST = "host"


@dataclass(frozen=True, slots=True)
class Topology:
    """A node for each instance (0 for those that are not named), and the two links."""

    nodes: Mapping[str, int]
    node_link: Link  # inside a node
    link: Link  # between nodes

    def link_between(self, one: str, other: str) -> Link:
        """Over which KV moves from one instance to another."""
        together = self.nodes.get(one, 0) == self.nodes.get(other, 0)
        return self.node_link if together else self.link

    def bytes_per_s(self, one: str, other: str) -> float:
        """What a transfer between two instances gets, latency aside."""
        return self.link_between(one, other).useful_bytes_per_s


class Linked:
    """`timing` for one instance of a topology: KV from another instance takes the time of their link.

    `block_bytes` are those of a block on one device of the instance: each device moves its own share at once. What
    goes to the host and back takes what `timing` says.
    """

    def __init__(
        self, timing: TimingModel, instance: str, topology: Topology, block_bytes: int
    ) -> None:
        self._timing, self._instance = timing, instance
        self._topology, self._block_bytes = topology, block_bytes
        self.layers = timing.layers
        self.rates = getattr(timing, "rates", None)
        self.prices_nano_batches = getattr(timing, "prices_nano_batches", False)

    def durations_ns(self, step: Step, repeats: int) -> list[int]:
        """As `timing` says."""
        return self._timing.durations_ns(step, repeats)

    def chunk_time_ns(self, tokens: int, context_tokens: int) -> int:
        """As `timing` says."""
        return self._timing.chunk_time_ns(tokens, context_tokens)

    def transfer_ns(self, transfer: Transfer) -> int:
        """Whole nanoseconds on the link to the transfer's peer."""
        if transfer.peer == _HOST:
            return self._timing.transfer_ns(transfer)
        link = self._topology.link_between(self._instance, transfer.peer)
        return link.transfer_ns(transfer.blocks * self._block_bytes)

    def queue_of(self, transfer: Transfer) -> str:
        """Transfers of one queue follow each other: the link inside the node has its own.

        The network and the host share one, as they do where there is no topology.
        """
        if transfer.peer == _HOST:
            return ""
        link = self._topology.link_between(self._instance, transfer.peer)
        return "" if link == self._topology.link else link.name
