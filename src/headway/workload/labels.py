"""Who asks, and what they were promised: tenants and SLO classes over any workload.

Labels are a function of (seed, request id), or of (seed, session) so that the turns of a session agree.
Nothing is remembered, and no stream of draws depends on the order of ends.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from headway.core import Request, Slo
from headway.core.protocols import Offer, Workload
from headway.errors import OptionError
from headway.workload.offered import Offered, changed

_MASK = (1 << 64) - 1


class Tenants:
    """Gives each request a tenant, in proportion to shares (of any sum)."""

    def __init__(self, source: Workload, shares: Mapping[str, float], seed: int = 0) -> None:
        self._source = source
        self._names = list(shares)
        self._pick = _Picker(list(shares.values()), seed)

    @classmethod
    def skewed(cls, source: Workload, tenants: int, skew: float = 1.0, seed: int = 0) -> Tenants:
        """`tenants` tenants `t0`, `t1`, ... of shares 1, 2^-skew, 3^-skew, ...; skew 0 is equal shares."""
        return cls(source, {f"t{k}": (k + 1) ** -skew for k in range(tenants)}, seed)

    def offers(self) -> Iterator[Offered]:
        """Offer the source's requests, labelled."""
        return map(self._labelled, self._source.offers())

    def on_end(self, request: Request, outcome: str, now_ns: int) -> Sequence[Offered]:
        """Offer what the end causes in the source, labelled."""
        return [self._labelled(offer) for offer in self._source.on_end(request, outcome, now_ns)]

    def _labelled(self, offer: Offer) -> Offered:
        request = offer.request
        tenant = self._names[self._pick(request)]
        return Offered(changed(request, tenant=tenant), offer.output_tokens)


class SloClasses:
    """Gives each request one of several SLOs, in proportion to shares (of any sum)."""

    def __init__(
        self, source: Workload, classes: Sequence[tuple[Slo, float]], seed: int = 0
    ) -> None:
        self._source = source
        self._slos = [slo for slo, _ in classes]
        # Apart from the tenants' draws even under the same seed.
        self._pick = _Picker([share for _, share in classes], ~seed)

    def offers(self) -> Iterator[Offered]:
        """Offer the source's requests, labelled."""
        return map(self._labelled, self._source.offers())

    def on_end(self, request: Request, outcome: str, now_ns: int) -> Sequence[Offered]:
        """Offer what the end causes in the source, labelled."""
        return [self._labelled(offer) for offer in self._source.on_end(request, outcome, now_ns)]

    def _labelled(self, offer: Offer) -> Offered:
        request = offer.request
        slo = self._slos[self._pick(request)]
        return Offered(changed(request, slo=slo), offer.output_tokens)


class _Picker:
    """Index of a label for a request, with the labels' shares as probabilities."""

    def __init__(self, shares: Sequence[float], seed: int) -> None:
        total = sum(shares)
        if not shares or min(shares) < 0 or not 0 < total < float("inf"):
            raise OptionError(
                f"shares {list(shares)}: expected one or more, none negative, and some above 0"
            )
        self._bounds = [int(part / total * 2.0**64) for part in accumulate(shares)][:-1]
        self._seed = _mixed(seed & _MASK)

    def __call__(self, request: Request) -> int:
        key = request.id * 2 if request.session is None else request.session * 2 + 1
        return bisect_right(self._bounds, _mixed(self._seed ^ (key & _MASK)))


def _mixed(x: int) -> int:
    """Scramble 64 bits (the finaliser of splitmix64, Steele et al. 2014)."""
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)
