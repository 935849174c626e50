"""Long prompts that share beginnings like a tree: all with one system prompt, some with each other.

A request continues an earlier one with probability `continues`: it repeats that one's blocks as far as
its own length allows, then goes on alone. The earlier one is that of four, picked from the last `window`
requests, with which it can share most: long prompts are mostly long conversations. Lengths stay those of
`shapes`. Blocks have 512 tokens, as in Mooncake's traces.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, repeat

import numpy as np

from headway.core import NO_SLO, PrefixExtent, Request, Slo
from headway.errors import OptionError
from headway.workload.arrivals import BLOCK, Arrivals, Poisson, check_positive
from headway.workload.lengths import LogNormal
from headway.workload.offered import DEFAULT_MAX_TOKENS, Offered, cap_for, check_cap
from headway.workload.shapes import Independent, Shapes

BLOCK_TOKENS = 512
_PICKS = 4
SYSTEM_EXTENT = 0  # hash of the first block, which all requests share


@dataclass(frozen=True, slots=True)
class SharedPrefixes:
    """Open-loop requests with tree-like shared prefixes; endless when `requests` is None."""

    arrivals: Arrivals
    shapes: Shapes
    continues: float = 0.5
    window: int = 512
    requests: int | None = None
    seed: int = 0
    slo: Slo = NO_SLO
    max_tokens: int = DEFAULT_MAX_TOKENS
    system: tuple[PrefixExtent, ...] = field(default=((SYSTEM_EXTENT, BLOCK_TOKENS),))

    def __post_init__(self) -> None:
        """Check the options."""
        check_cap(self.max_tokens)
        check_positive("window", self.window)
        if not 0 <= self.continues <= 1:
            raise OptionError(
                f"continues is {self.continues}, a probability lies in 0 to 1: choose one"
            )

    def offers(self) -> Iterator[Offered]:
        """Offer requests in order of arrival, the same ones each time."""
        times, lengths, choices = np.random.default_rng(self.seed).spawn(3)
        recent: deque[tuple[PrefixExtent, ...]] = deque([self.system], maxlen=self.window)
        drawn = zip(
            self.arrivals.times(times), self.shapes.pairs(lengths), _uniforms(choices), strict=False
        )
        unused = SYSTEM_EXTENT + 1
        for number, (arrival_ns, (prompt, output), chance) in enumerate(
            islice(drawn, self.requests)
        ):
            parent = self.system
            if chance < self.continues:
                # What is left of one uniform draw is uniform again.
                parent = _longest(recent, chance / self.continues)
            full, rest = divmod(prompt, BLOCK_TOKENS)
            shared = parent[: min(full, len(parent))]
            fresh = unused + full - len(shared)
            prefix = (*shared, *zip(range(unused, fresh), repeat(BLOCK_TOKENS)))
            unused = fresh + 1
            recent.append(prefix)
            request = Request(
                number,
                arrival_ns,
                prompt,
                cap_for(output, self.max_tokens),
                self.slo,
                prefix=(*prefix, (fresh, rest)) if rest else prefix,
            )
            yield Offered(request, output)

    def on_end(self, request: Request, outcome: str, now_ns: int) -> Sequence[Offered]:
        """Nothing: sharing is decided when requests are made."""
        return ()


def mooncake_like(
    rate_rps: float = 3.4,
    *,
    requests: int | None = None,
    seed: int = 0,
    slo: Slo = NO_SLO,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> SharedPrefixes:
    """Long conversations like Mooncake's trace, without the file.

    Follows it in the mean lengths (12,035 in, 343 out), the median prompt (6,909), the rate (12,031
    requests in 3,537 s) and the share of 512-token blocks that an infinite cache would hold (0.37).
    """
    shapes = Independent(LogNormal.of(6909, 12_035, 131_072), LogNormal.of(300, 343, 2000))
    return SharedPrefixes(
        Poisson(rate_rps), shapes, requests=requests, seed=seed, slo=slo, max_tokens=max_tokens
    )


def _longest(recent: Sequence[tuple[PrefixExtent, ...]], place: float) -> tuple[PrefixExtent, ...]:
    """Return the longest of four evenly spaced prefixes, the first one `place` (0 to 1) of the way."""
    size = len(recent)
    first = int(place * size)
    picks = [recent[(first + k * size // _PICKS) % size] for k in range(_PICKS)]
    return max(picks, key=len)


def _uniforms(rng: np.random.Generator) -> Iterator[float]:
    for _ in repeat(None):
        yield from rng.random(BLOCK).tolist()
