"""What a file in `experiments/` defines: how one claim is measured.

An arm is a function seed -> value of the claim's metric. Every arm of a seed meets the same requests (common random
numbers), so a ratio of two arms of one seed is a paired comparison. Arms are module-level functions: they go to
other processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Arm = Callable[[int], float]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The arms of one claim; `higher_is_better` says which way its metric points.

    `ours` and `baseline` are the system and the paper's baseline where the claim was made, `null_ours` and
    `null_baseline` the same two where the mechanism must gain nothing, `strong` the strongest simple policy.
    `ablations` are reported and judge nothing. `differs` says in one sentence each where we cannot do as the paper did.
    """

    ours: Arm
    baseline: Arm
    strong: Arm
    null_ours: Arm
    null_baseline: Arm
    higher_is_better: bool
    setup: str
    null_setup: str
    ablations: Mapping[str, Arm] = field(default_factory=dict)
    differs: tuple[str, ...] = ()
