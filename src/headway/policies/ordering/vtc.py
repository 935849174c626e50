"""Virtual token counter: the tenant that was served least goes first.

A counter per tenant grows by what was computed for it: `input_price` per prompt token, `output_price` per output token.
A tenant that comes back after a pause starts at the least counter of those who are active: nobody saves up for later.

Source: Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024 (input price 1, output price 2).
Differs: prompt tokens are charged as their chunks land, not at once, and computed again after a preemption they are
charged again; a prefix that was cached costs nothing.
Cost: O(works) per step, O(waiting log waiting) per plan while anybody waits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from headway.core import Sequence, Step, StepResult


@dataclass
class VirtualTokenCounter:
    """Options: what a tenant pays for a token."""

    dynamic: ClassVar[bool] = True

    input_price: float = 1.0
    output_price: float = 2.0
    _paid: dict[str, float] = field(default_factory=dict, init=False, repr=False)
    _here: dict[str, int] = field(default_factory=dict, init=False, repr=False)  # unended requests

    def key(self, sequence: Sequence) -> tuple[float, ...]:
        """What its tenant has paid, then arrival."""
        request = sequence.request
        return self._paid.get(request.tenant, 0.0), request.arrival_ns, request.id

    def on_submit(self, sequence: Sequence) -> None:
        """Lift the counter of a tenant that was away."""
        tenant = sequence.request.tenant
        if not self._here.get(tenant):
            active = [self._paid[other] for other, count in self._here.items() if count]
            self._paid[tenant] = max(self._paid.get(tenant, 0.0), min(active, default=0.0))
        self._here[tenant] = self._here.get(tenant, 0) + 1

    def on_step(self, step: Step, result: StepResult) -> None:
        """Charge what was computed."""
        paid = self._paid
        for work, done in zip(step.work, result.done, strict=True):
            inputs = max(0, done.tokens - done.emitted) if not work.sequence.decodes else 0
            cost = inputs * self.input_price + done.emitted * self.output_price
            tenant = work.sequence.request.tenant
            paid[tenant] = paid.get(tenant, 0.0) + cost

    def on_end(self, sequence: Sequence, outcome: str) -> None:
        """Forget who has left, once nobody is behind them."""
        del outcome
        tenant = sequence.request.tenant
        self._here[tenant] -= 1
        if not self._here[tenant]:
            del self._here[tenant]
            if not self._here:
                self._paid.clear()  # counters only compare tenants that are here together
