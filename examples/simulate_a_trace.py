"""Simulate a trace on one GPU, with a policy of our own beside a published one.

Usage: python examples/simulate_a_trace.py [TRACE]
Without a trace, requests are like conversations. `headway.simulate` returns everything at once: numbers,
a table, a page with plots, and the requests one by one.
"""

import sys
from dataclasses import dataclass
from typing import ClassVar

import headway
from headway.core import Sequence


@dataclass
class ShortestLeft:
    """An ordering policy: who has the least input left to compute goes first."""

    dynamic: ClassVar[bool] = True

    def key(self, sequence: Sequence) -> tuple[float, ...]:
        """Input left, then id."""
        return (sequence.remaining_tokens, sequence.request.id)


def main() -> None:
    trace = sys.argv[1] if len(sys.argv) > 1 else None
    slo = "ttft=500ms,tpot=40ms"
    result = headway.simulate(model="llama-3.1-8b", gpu="h100", trace=trace, requests=500, slo=slo)
    print(result.table())

    slowest = max(result.requests()["first_token_ns"] - result.requests()["arrival_ns"])
    print(f"\nThe slowest first token took {slowest / 1e6:.0f} ms.\n")

    comparison = headway.compare(
        ordering=["fcfs", ShortestLeft], batching="sarathi", trace=trace, requests=500, slo=slo,
        rates=["1x", "4x"],
    )  # fmt: skip
    print(comparison.table())


if __name__ == "__main__":
    main()
