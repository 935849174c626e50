"""A connection between devices, or of a device and its host."""

from __future__ import annotations

from dataclasses import dataclass

from headway.core import NS_PER_S


@dataclass(frozen=True, slots=True)
class Link:
    """Bandwidth is nominal, per direction; transfers get `efficiency` of it.

    `latency_ns` is one small message, software included. `jitter` is the relative standard deviation
    of a transfer's time: a simulated network may draw with it, predictions ignore it.
    """

    name: str
    bytes_per_s: float
    latency_ns: int
    jitter: float = 0.0
    efficiency: float = 0.8

    @property
    def useful_bytes_per_s(self) -> float:
        """What large transfers get."""
        return self.bytes_per_s * self.efficiency

    @property
    def ns_per_byte(self) -> float:
        """Time each byte holds the link."""
        return NS_PER_S / self.useful_bytes_per_s

    def transfer_ns(self, payload_bytes: float) -> int:
        """Time of one message; 0 bytes cost nothing."""
        if payload_bytes <= 0:
            return 0
        return self.latency_ns + round(payload_bytes * self.ns_per_byte)
