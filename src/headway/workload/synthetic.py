"""Independent requests: an arrival process and a distribution of lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from headway.core import NO_SLO, Request, Slo
from headway.errors import OptionError
from headway.workload.arrivals import Arrivals, Gamma
from headway.workload.offered import DEFAULT_MAX_TOKENS, Offered, cap_for, check_cap
from headway.workload.shapes import Shapes, azure_conversation


@dataclass(frozen=True, slots=True)
class Synthetic:
    """Open-loop requests without sessions or shared prefixes; endless when `requests` is None.

    Arrivals and lengths have streams of their own: changing the rate leaves the lengths as they were.
    """

    arrivals: Arrivals
    shapes: Shapes = field(default_factory=azure_conversation)
    requests: int | None = None
    seed: int = 0
    slo: Slo = NO_SLO
    max_tokens: int = DEFAULT_MAX_TOKENS

    def __post_init__(self) -> None:
        """Check the options."""
        check_cap(self.max_tokens)
        if self.requests is not None and self.requests < 0:
            raise OptionError(
                f"requests is {self.requests}, the least is 0: leave it out for an endless workload"
            )

    def offers(self) -> Iterator[Offered]:
        """Offer requests in order of arrival, the same ones each time."""
        times, lengths = np.random.default_rng(self.seed).spawn(2)
        slo, cap = self.slo, self.max_tokens
        drawn = zip(self.arrivals.times(times), self.shapes.pairs(lengths), strict=False)
        for number, (arrival_ns, (prompt, output)) in enumerate(islice(drawn, self.requests)):
            max_tokens = cap if output <= cap else cap_for(output, cap)
            yield Offered(Request(number, arrival_ns, prompt, max_tokens, slo), output)

    def on_end(self, request: Request, outcome: str, now_ns: int) -> Sequence[Offered]:
        """Nothing: these users ask once."""
        return ()


def conversation_like(
    rate_rps: float = 5.53,
    *,
    requests: int | None = None,
    cv: float = 1.09,
    seed: int = 0,
    slo: Slo = NO_SLO,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> Synthetic:
    """Chat traffic like Azure's conversations of 2023, without the file.

    Rate, CV of the gaps and lengths follow the trace (19,366 requests in 3,502 s); unlike it, lengths are
    independent of each other and of time.
    """
    arrivals = Gamma(rate_rps, cv)
    return Synthetic(arrivals, azure_conversation(), requests, seed, slo, max_tokens)
