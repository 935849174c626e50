"""How evenly tenants were served: Jain's index over entitlements, and how far service drifted.

Sources: Jain, Chiu and Hawe, "A Quantitative Measure of Fairness and Discrimination", DEC TR-301,
1984 (the index);
Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024 (service is tokens; the bound
is on pairs of tenants that are both backlogged).
Differs: prompt tokens count when the first output token is out, with weight 1 like output tokens;
entitlements are max-min shares, so a tenant that asked for little is not "unfair" for having
received little.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

import numpy as np

from headway.metrics.histogram import Ints

DEFINITIONS = {
    "served_tokens": (
        (
            "Prompt tokens of ended requests that got a first output token, plus all output "
            "tokens of ended requests."
        ),
        "tokens",
    ),
    "entitled_tokens": (
        (
            "A tenant's max-min fair share of all tokens served: nobody is entitled to more "
            "than its demand, and what is left is split evenly (or by weight). Demand is the "
            "tokens served plus, for each request that was not finished, what it lacks of its "
            "prompt tokens and the mean output tokens of finished requests."
        ),
        "tokens",
    ),
    "jain_tokens": (
        (
            "Jain's index (sum x)^2 / (n sum x^2) over tenants, x = served_tokens / "
            "entitled_tokens: 1 when everybody got the share due to them, 1/n when one tenant "
            "got everything. Null with fewer than 2 tenants."
        ),
        "index",
    ),
    "worst_tenant_attainment": ("Smallest SLO attainment of a tenant.", "share"),
    "max_service_lag_tokens": (
        (
            "Largest change of the difference in tokens served between two tenants while both "
            "had requests without a first token; sampled when a request gets its first token "
            "or ends, at most every 250 ms (less often in long runs), over the first 64 "
            "tenants. Null with fewer than 2 tenants."
        ),
        "tokens",
    ),
}

_SAMPLE_NS = 250_000_000
_SAMPLES_BEFORE_SLOWING = 1 << 15
MOST_TENANTS = 64  # of the service lag: it keeps all pairs


def jain_index(shares: Seq[float]) -> float:
    """Jain's index of shares that are not negative; 1 when all are equal, also when all are 0.

    Raises:
        ValueError: no shares.
    """
    if not shares:
        msg = "Jain's index needs at least one share"
        raise ValueError(msg)
    top = max(shares)
    if top <= 0:
        return 1.0
    scaled = [share / top for share in shares]  # tiny shares would vanish when squared
    return float(sum(scaled) ** 2 / (len(scaled) * sum(share * share for share in scaled)))


def entitlements(
    demands: Seq[float], total: float, weights: Seq[float] | None = None
) -> list[float]:
    """Split `total` max-min fairly by weight (water-filling); nobody gets more than its demand.

    All demands are met when `total` allows it.
    """
    weight = list(weights) if weights is not None else [1.0] * len(demands)
    shares = [0.0] * len(demands)
    left = min(total, sum(demands))
    thirsty = sorted(range(len(demands)), key=lambda index: (demands[index] / weight[index], index))
    left_weight = sum(weight)
    for index in thirsty:  # who is satisfied first comes first
        shares[index] = min(demands[index], left * weight[index] / left_weight)
        left = max(0.0, left - shares[index])
        left_weight = max(left_weight - weight[index], 1e-12)
    return shares


class ServiceLag:
    """Range of the service difference of every pair of tenants while both are backlogged."""

    def __init__(self) -> None:
        self.max_tokens = 0
        self._next_ns = 0
        self._every_ns = _SAMPLE_NS
        self._samples = 0
        self._low: Ints = np.zeros((0, 0), np.int64)
        self._high: Ints = np.zeros((0, 0), np.int64)
        self._both: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = np.zeros((0, 0), np.bool_)

    def due(self, now_ns: int) -> bool:
        """Is it time for another sample?"""
        return now_ns >= self._next_ns

    def sample(self, now_ns: int, served: Seq[int], backlogged: Seq[bool]) -> None:
        """Note tokens served and who is backlogged, by tenant; tenants may only be added at the end."""
        self._samples += 1
        if self._samples % _SAMPLES_BEFORE_SLOWING == 0:
            self._every_ns *= 2
        self._next_ns = now_ns + self._every_ns
        if sum(backlogged) < 2:
            self._both = np.zeros((0, 0), np.bool_)
            return
        self._fit(len(served))
        service = np.array(served, np.int64)
        difference = service[:, None] - service[None, :]
        waits = np.array(backlogged, np.bool_)
        both = waits[:, None] & waits[None, :]
        known = both & self._both
        self._low = np.where(known, np.minimum(self._low, difference), difference)
        self._high = np.where(known, np.maximum(self._high, difference), difference)
        self._both = both
        self.max_tokens = max(self.max_tokens, int((self._high - self._low).max(initial=0)))

    def _fit(self, tenants: int) -> None:
        self._both = np.pad(self._both, (0, tenants - len(self._both)))
        if tenants > len(self._low):
            more = tenants - len(self._low)
            self._low, self._high = np.pad(self._low, (0, more)), np.pad(self._high, (0, more))
