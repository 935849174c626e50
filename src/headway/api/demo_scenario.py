"""A comparison that shows something in seconds, without any file: chat and batch work, two tenants."""

from __future__ import annotations

from headway.api.scenario import Scenario

DEMO_CHOICES = {"batching": ("all",), "ordering": ("fcfs", "earliest_deadline", "shortest_prompt")}
DEMO_RATES = ("0.5x", "1x", "1.5x")


def demo_scenario(seed: int = 0) -> Scenario:
    """Conversations on one H100: 70 % are chat with tight targets, the rest may take half a minute."""
    return Scenario(
        slo=("chat:ttft=500ms,tpot=40ms,share=0.7", "batch:e2e=30s,share=0.3"),
        rate_rps=20.0,
        requests=400,
        cv=1.5,
        tenants=2,
        tenant_skew=1.5,
        seed=seed,
    )
