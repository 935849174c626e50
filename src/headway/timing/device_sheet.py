"""What a device can do, as far as time, memory and energy care."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headway.errors import OptionError
from headway.timing.link import Link

# Where a dtype is missing, its weights are converted on the fly and the product runs in the next one.
_FALLBACKS = {
    "fp4": ("bf16", "fp16", "fp32"),
    "fp8": ("bf16", "fp16", "fp32"),
    "int8": ("bf16", "fp16", "fp32"),
    "bf16": ("fp16", "fp32"),
    "fp16": ("bf16", "fp32"),
    "fp32": (),
}


@dataclass(frozen=True, slots=True)
class DeviceSheet:
    """One accelerator or CPU. Peaks are dense: vendors also print twice as much "with sparsity".

    The efficiencies and the `*_ns` fields are what calibration fits; the rest are facts. `from_memory` names
    the facts that were not read in a datasheet.
    """

    name: str
    title: str
    peak_flops: Mapping[str, float]  # dtype -> FLOP/s
    memory_bytes_per_s: float
    memory_bytes: int
    scale_up: Link  # to its peers in one tensor-parallel group
    host: Link  # to the memory of its host
    network: Link  # to devices of other hosts
    tdp_watts: float
    idle_watts: float
    usable_share: float = 0.985  # of the memory, after what driver and error correction keep
    context_bytes: int = 800_000_000  # runtime context, libraries and captured graphs
    max_scale_up: int = 8  # most devices that `scale_up` joins
    compute_efficiency: float = 0.65  # share of the peak that large matrix products reach
    memory_efficiency: float = 0.8  # share of the bandwidth that large reads reach
    kernel_ns: int = 3_000  # ramp and gap of one kernel on the device
    kernels_per_layer: int = 7
    launch_ns: int = 8_000  # host time to launch one kernel when steps are not captured as graphs
    step_ns: int = 400_000  # scheduling, input preparation and sampling that a step waits for
    sequence_ns: int = 5_000  # the part of that which grows with the batch
    memory_kernel_share: float = 0.5  # of the processors, that read at full speed beside a product
    network_kernel_share: float = 0.36  # likewise of an all-reduce; both 1: nothing overlaps
    from_memory: tuple[str, ...] = ()
    notes: str = ""
    aliases: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        """Refuse values that would make times negative or infinite."""
        positive = (*self.peak_flops.values(), self.memory_bytes_per_s, self.memory_bytes)
        if not self.peak_flops or min(positive) <= 0:
            raise OptionError(f"device {self.name!r} needs peaks, bandwidth and memory above 0")
        shares = (
            self.usable_share,
            self.compute_efficiency,
            self.memory_efficiency,
            self.memory_kernel_share,
            self.network_kernel_share,
        )
        if not all(0 < share <= 1 for share in shares):
            raise OptionError(f"device {self.name!r} has a share or an efficiency outside (0, 1]")
        if not 0 <= self.idle_watts <= self.tdp_watts:
            raise OptionError(f"device {self.name!r} idles above its TDP of {self.tdp_watts} W")

    @property
    def usable_bytes(self) -> int:
        """Memory that a process can see."""
        return int(self.memory_bytes * self.usable_share)

    def peak(self, dtype: str) -> float:
        """FLOP/s at `dtype`, or at what the device computes such weights in."""
        for name in (dtype, *_FALLBACKS.get(dtype, ("bf16", "fp16", "fp32"))):
            if name in self.peak_flops:
                return self.peak_flops[name]
        raise OptionError(
            f"device {self.name!r} has no peak for {dtype}: it lists {', '.join(self.peak_flops)}"
        )
