"""What is deployed: which weights, on what, how often. `plan` writes it; `serve` and `simulate` read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Variant:
    """Weights at one precision, and how good their answers are where that is known."""

    model: str
    precision: str = "bf16"
    quality: Mapping[str, float] = field(default_factory=dict)  # benchmark -> score


@dataclass(frozen=True, slots=True)
class Pool:
    """Instances of one role: the same variant on the same devices."""

    variant: Variant
    device: str
    instances: int = 1
    tensor_parallel: int = 1
    role: str = "mixed"  # mixed | prefill | decode


@dataclass(frozen=True, slots=True)
class Deployment:
    """All pools behind one router, and the policies they run: kind -> name or `pkg.mod:Class`."""

    pools: tuple[Pool, ...]
    policies: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)  # "policy.option" -> value
