"""How fast steps run side by side on one device, from what each of them computes and reads.

A step is groups of operators that follow one another, each the longer of its arithmetic and its memory traffic, and
time that no share changes (host, launches, links). A share is a part of the device's cores.

* Arithmetic is proportional to the share up to `compute_knee`, and beyond it grows slowly to full speed.
* Memory traffic reaches the full bandwidth from `memory_knee` on: a decode hardly notices that half the cores are gone.
* When all together want more arithmetic, or more bandwidth, than the device has, nobody gets more of it than an equal
  limit, the largest with which the sum fits. Weights are counted in every step: each lane reads them for itself.
* Shares that sum above the whole compete: arithmetic on the cores that are claimed twice loses `interference`.

Sources: the saturation share and the decay beyond it are those of Nexus (proactive intra-GPU split of prefill and
decode, 2025), which fits them per operator; here two knees stand for all. That large reads saturate the bandwidth from
40 to 60 % of the cores is common experience on data-centre GPUs; the interference is of the order of what semi-PD
(2025) gains over lanes that both have 100 %. All four are guesses until somebody measures them.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import NamedTuple

from headway.errors import OptionError

WHOLE = 1000  # per mille: of the device, and of a step's speed alone


class StepParts(NamedTuple):
    """What a step takes alone, in whole nanoseconds."""

    groups: Seq[tuple[int, int]]  # (arithmetic, memory traffic), one after the other
    fixed_ns: int  # no share changes it

    @property
    def alone_ns(self) -> int:
        """The whole device for itself."""
        return self.fixed_ns + sum(max(group) for group in self.groups)

    @property
    def demands_ns(self) -> tuple[int, int]:
        """Of the arithmetic units and of the memory, at full speed."""
        return sum(group[0] for group in self.groups), sum(group[1] for group in self.groups)

    def time_ns(self, slower: int, longer: int) -> int:
        """With arithmetic and memory traffic so many per mille as long as alone."""
        return self.fixed_ns + sum(
            max(flops * slower, memory * longer) // WHOLE for flops, memory in self.groups
        )


@dataclass(frozen=True, slots=True)
class Contention:
    """Per mille of the cores, and of the speed that arithmetic has at its knee."""

    compute_knee: int = 800
    compute_at_knee: int = 900
    memory_knee: int = 500
    interference: int = 100

    def __post_init__(self) -> None:
        """Refuse what is not concave."""
        if not 0 < self.compute_knee <= self.compute_at_knee <= WHOLE:
            raise OptionError(
                f"compute reaches {self.compute_at_knee} per mille at {self.compute_knee}: give a knee up to the "
                "speed at it, both above 0 and up to 1000"
            )
        if not 0 < self.memory_knee <= WHOLE:
            raise OptionError(f"memory_knee is {self.memory_knee}: give 1 to 1000 per mille")
        if not 0 <= self.interference < WHOLE:
            raise OptionError(f"interference is {self.interference}: give 0 to 999 per mille")

    def compute(self, share: int) -> int:
        """Speed of arithmetic with `share` of the cores and nobody beside it."""
        knee, at_knee = self.compute_knee, self.compute_at_knee
        if share >= WHOLE:
            return WHOLE
        if share <= knee:
            return max(1, share * at_knee // knee)
        return at_knee + (share - knee) * (WHOLE - at_knee) // (WHOLE - knee)

    def rates(self, steps: Seq[StepParts], shares: Seq[int]) -> list[int]:
        """Per mille of each step's speed alone, all of them running now; 1000 for one with the whole device."""
        contested = min(WHOLE, max(0, sum(shares) - WHOLE))
        whole = WHOLE - self.interference * contested // WHOLE
        slower = [WHOLE * WHOLE * WHOLE // (self.compute(share) * whole) for share in shares]
        longer = [max(WHOLE, self.memory_knee * WHOLE // max(1, share)) for share in shares]
        slower = _limited(steps, slower, longer, axis=0, whole=whole)
        longer = _limited(steps, slower, longer, axis=1, whole=WHOLE)
        rates = []
        for step, slow, long in zip(steps, slower, longer, strict=True):
            time_ns = step.time_ns(slow, long)
            rates.append(max(1, step.alone_ns * WHOLE // time_ns) if time_ns else WHOLE)
        return rates


def _limited(
    steps: Seq[StepParts], slower: list[int], longer: list[int], *, axis: int, whole: int
) -> list[int]:
    """One of the two lists, raised to the least equal limit with which all demands for its resource fit."""
    mine = (slower, longer)[axis]

    def fits(limit: int) -> bool:
        used = 0
        for step, slow, long in zip(steps, slower, longer, strict=True):
            pair = (max(slow, limit), long) if axis == 0 else (slow, max(long, limit))
            time_ns = step.time_ns(*pair)
            used += step.demands_ns[axis] * WHOLE // time_ns if time_ns else 0
        return used <= whole

    low, high = (
        WHOLE,
        WHOLE * WHOLE * len(steps) // whole + 1,
    )  # at the top each has a part of its own
    if len(steps) == 1 or fits(low):
        return mine
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            high = middle
        else:
            low = middle
    return [max(one, high) for one in mine]
