"""Prefill and decode side by side, each on a lane of its own with a share of the device (as semi-PD and Nexus)."""

from dataclasses import dataclass, field
from typing import ClassVar

from headway.core import InstanceView, StepPlan, Work


@dataclass
class TwoLanes:
    """Options: tokens of a prefill step, and what decodes get of the device, per mille."""

    needs: ClassVar[frozenset[str]] = frozenset({"lanes"})
    chunk_tokens: int = 512
    decode_share: int = 600
    lanes: dict[str, int] = field(default_factory=lambda: {"decode": 1, "prefill": 1}, init=False)

    def plan(self, view: InstanceView) -> StepPlan:
        """Fill whichever lane is idle."""
        work: dict[str, list[Work]] = {}
        if "decode" in view.idle_lanes:
            work["decode"] = view.take_decodes("decode")
        if "prefill" in view.idle_lanes:
            work["prefill"] = view.take_prefills("prefill", tokens=self.chunk_tokens)
        shares = {"decode": self.decode_share, "prefill": 1000 - self.decode_share}
        return StepPlan(work, shares, steady=True)
