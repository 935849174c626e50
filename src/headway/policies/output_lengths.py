"""What ended requests say of how long an output will be: quantiles, given what is out already.

Differs from the quantile regression forests of the literature: no features but the request's SLO class and tenant.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from dataclasses import dataclass, field

from headway.core import Sequence
from headway.core.fleet import FINISHED_OK

LEAST = 8  # ended requests before a class is believed


@dataclass
class OutputLengths:
    """Lengths of the last `window` finished outputs, of each class and of all; `prior` tokens before there are any."""

    prior: int = 256
    window: int = 512
    _seen: dict[tuple[str, str] | None, tuple[deque[int], list[int]]] = field(
        default_factory=dict, init=False, repr=False
    )

    def learn(self, sequence: Sequence, outcome: str) -> None:
        """Remember a finished output; one that was cut off says nothing of its length."""
        if outcome != FINISHED_OK:
            return
        for group in (_group(sequence), None):
            recent, ranked = self._seen.setdefault(group, (deque(), []))
            if len(recent) == self.window:
                del ranked[bisect_right(ranked, recent.popleft()) - 1]
            recent.append(sequence.output_tokens)
            insort(ranked, sequence.output_tokens)

    def quantile(self, sequence: Sequence, level: float) -> int:
        """Length that a share `level` of the finished outputs longer than what is out do not exceed.

        Longer than all of them: twice what is out. Never above `max_tokens`.
        """
        out = sequence.output_tokens
        guess = self.prior if out < self.prior else 2 * out
        for group in (_group(sequence), None):
            _, ranked = self._seen.get(group, (None, ()))
            if len(ranked) >= LEAST:
                first = bisect_right(ranked, out)
                left = len(ranked) - first
                guess = ranked[first + min(left - 1, int(level * left))] if left else 2 * out
                break
        return min(max(guess, out + 1), sequence.max_tokens)


def _group(sequence: Sequence) -> tuple[str, str]:
    return sequence.request.slo.name, sequence.request.tenant
