"""What is to be different from a measured run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headway.api.policy_choices import label_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to be different; None leaves it as it was."""

    policies: Mapping[str, str] = field(default_factory=dict)  # kind -> name
    options: Mapping[str, str] = field(default_factory=dict)  # "policy.option" -> value
    gpu: str | None = None
    model: str | None = None
    precision: str | None = None
    tp: int | None = None
    instances: int | None = None
    kv_blocks: int | None = None
    rate_scale: float | None = None

    @property
    def told(self) -> list[str]:
        """Each change in a few words; empty when there is none."""
        said = [f"{kind} {label_of(name)}" for kind, name in self.policies.items()]
        said += [f"{key}={value}" for key, value in self.options.items()]
        for name in ("gpu", "model", "precision", "tp", "instances", "kv_blocks"):
            value = getattr(self, name)
            if value is not None:
                said.append(f"{name.replace('_', ' ')} {value}")
        if self.rate_scale is not None:
            said.append(f"arrivals {self.rate_scale:g}x as fast")
        return said


ASKED = (
    "--batching, --ordering, --memory, --routing, --admission POLICY; --set POLICY.OPTION=VALUE; "
    "--gpu, --model, --precision, --tp; --instances, --kv-blocks, --rate-scale"
)
