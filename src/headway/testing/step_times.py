"""Step times for tests: exact integers, odd on purpose, so that two ends coincide only when they should."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from headway.timing import Affine


@dataclass(frozen=True, slots=True)
class StepTimes(Affine):
    """Defaults near a 7B model on one large GPU, with eight layers; nano-batches cost and gain nothing."""

    prices_nano_batches: ClassVar[bool] = True

    base_ns: int = 9_500_003
    token_ns: int = 55_001
    context_ns: int = 83
    sequence_ns: int = 0
    layers: int = 8
    block_ns: int = 100_003
