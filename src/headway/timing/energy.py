"""Energy of a run from its aggregates: idle power over time, plus so much per FLOP and per byte.

The coefficients are a prior, not a measurement: a device at its compute peak is taken to draw 80 % of the way
from idle to TDP, and at its bandwidth peak 60 %. `Energy.prior` says so wherever the number goes.
"""

from __future__ import annotations

from dataclasses import dataclass

from headway.core import NS_PER_S
from headway.timing.device_sheet import DeviceSheet
from headway.timing.model_sheet import ModelSheet
from headway.timing.precision import precision

_COMPUTE_SHARE = 0.8
_MEMORY_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class EnergyCoefficients:
    """Joules per unit of work, and the bounds of one device's power."""

    idle_watts: float
    tdp_watts: float
    joules_per_flop: float
    joules_per_byte: float
    prior: bool = False  # guessed from the datasheet, not fitted to measurements

    @classmethod
    def guess(cls, model: ModelSheet, device: DeviceSheet) -> EnergyCoefficients:
        """The prior for this model's number format on this device."""
        dynamic_watts = device.tdp_watts - device.idle_watts
        return cls(
            device.idle_watts,
            device.tdp_watts,
            _COMPUTE_SHARE * dynamic_watts / device.peak(precision(model.precision).compute),
            _MEMORY_SHARE * dynamic_watts / device.memory_bytes_per_s,
            prior=True,
        )


@dataclass(frozen=True, slots=True)
class Energy:
    """Joules of all devices together. The total lies between idle and TDP over the whole time."""

    total_j: float
    idle_j: float  # what the same time would have cost with no work
    capped: bool  # the work alone would have exceeded the TDP
    prior: bool

    @property
    def idle_share(self) -> float:
        """Part of the total that idling would have cost; 0 for no time."""
        return self.idle_j / self.total_j if self.total_j else 0.0


def energy_j(
    model: ModelSheet,
    device: DeviceSheet,
    tp: int = 1,
    *,
    wall_ns: int,
    flops: float,
    moved_bytes: float,
    coefficients: EnergyCoefficients | None = None,
) -> Energy:
    """Energy of `tp` devices that were on for `wall_ns` and did `flops` and `moved_bytes` between them.

    Without `coefficients`, the prior.
    """
    rates = coefficients or EnergyCoefficients.guess(model, device)
    seconds = wall_ns / NS_PER_S * tp
    idle_j, most_j = rates.idle_watts * seconds, rates.tdp_watts * seconds
    wanted_j = idle_j + rates.joules_per_flop * flops + rates.joules_per_byte * moved_bytes
    return Energy(min(wanted_j, most_j), idle_j, wanted_j > most_j, rates.prior)
