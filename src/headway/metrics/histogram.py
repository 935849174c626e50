"""Counts of durations in log-linear buckets: 1024 a factor of two, so a bucket is at most 0.1 % wide.

The bucket of a value is read from the bits of its float64: the exponent and the ten leading
mantissa bits. That is one cast and one shift for a whole array. Counts are integers, so adding in
another order or in other portions gives the same histogram.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence as Seq

import numpy as np
import numpy.typing as npt

_MANTISSA_BITS = 52
_BUCKET_BITS = 10
_SHIFT = _MANTISSA_BITS - _BUCKET_BITS
_ORIGIN = (1023 << _BUCKET_BITS) - 1  # bucket 1 starts at 1 ns; bucket 0 holds zeros

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class LogHistogram:
    """Weighted histogram of whole nanoseconds. The sum is exact, percentiles are within 0.1 %."""

    __slots__ = ("_counts", "count", "total_ns")

    def __init__(self) -> None:
        self._counts: Ints = np.zeros(0, np.int64)
        self.count = 0
        self.total_ns = 0

    def add(self, values_ns: Ints, counts: Ints | None = None) -> None:
        """Count each value once, or `counts[i]` times."""
        if not len(values_ns):
            return
        bits = values_ns.astype(np.float64).view(np.int64)
        buckets = np.maximum((bits >> _SHIFT) - _ORIGIN, 0)
        if counts is None:
            self.count += len(values_ns)
            self.total_ns += int(values_ns.sum())
            self._grow(np.bincount(buckets))
        else:
            self.count += int(counts.sum())
            self.total_ns += int((values_ns * counts).sum())
            self._grow(np.bincount(buckets, weights=counts).astype(np.int64))

    def add_zeros(self, count: int) -> None:
        """Count the value 0 `count` times."""
        if count:
            self.count += count
            self._grow(np.array([count], np.int64))

    @classmethod
    def merged(cls, parts: Iterable[LogHistogram]) -> LogHistogram:
        """Return a new histogram that holds the values of all parts."""
        whole = cls()
        for part in parts:
            whole.count += part.count
            whole.total_ns += part.total_ns
            whole._grow(part._counts)  # noqa: SLF001 - its own class
        return whole

    @property
    def mean_ns(self) -> float | None:
        """Exact; None when empty."""
        return self.total_ns / self.count if self.count else None

    @property
    def std_ns(self) -> float | None:
        """Population standard deviation of the bucket middles, so that equal values give exactly 0."""
        if not self.count:
            return None
        used, middles = self._used()
        weights = used / self.count
        mean = float(weights @ middles)
        return float(np.sqrt(weights @ (middles - mean) ** 2))

    def quantiles_ns(self, shares: Seq[float]) -> list[float | None]:
        """Read quantiles, interpolating linearly between neighbouring ranks as `numpy.quantile` does."""
        if not self.count:
            return [None for _ in shares]
        used, middles = self._used()
        upto = np.cumsum(used)
        ranks = np.asarray(shares, np.float64) * (self.count - 1)
        low = middles[np.searchsorted(upto, np.floor(ranks), side="right")]
        high = middles[np.searchsorted(upto, np.ceil(ranks), side="right")]
        return [float(value) for value in low + (high - low) * (ranks - np.floor(ranks))]

    def cdf(self, points: int) -> tuple[Floats, Floats]:
        """Return at most about `points` (value in ns, share of values up to it), ascending in both."""
        if not self.count:
            return np.zeros(0), np.zeros(0)
        used, middles = self._used()
        shares = np.cumsum(used) / self.count
        wanted = np.searchsorted(shares, np.linspace(0.0, 1.0, points))
        keep = np.unique(np.clip(wanted, 0, len(shares) - 1))
        return middles[keep], shares[keep]

    def _used(self) -> tuple[Ints, Floats]:
        buckets = np.flatnonzero(self._counts)
        return self._counts[buckets], _middles(buckets)

    def _grow(self, counts: Ints) -> None:
        if len(counts) > len(self._counts):
            grown = counts.astype(np.int64)
            grown[: len(self._counts)] += self._counts
            self._counts = grown
        else:
            self._counts[: len(counts)] += counts


def _middles(buckets: npt.NDArray[np.intp]) -> Floats:
    """Middle of the whole numbers in a bucket: exact below 2048 ns, where it holds one at most."""
    start = np.ceil(((buckets + _ORIGIN) << _SHIFT).view(np.float64))
    stop = np.ceil(((buckets + 1 + _ORIGIN) << _SHIFT).view(np.float64)) - 1
    return np.where(buckets == 0, 0.0, (start + np.maximum(stop, start)) / 2)
