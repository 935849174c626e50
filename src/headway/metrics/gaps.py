"""Gaps between output tokens: (gap, count) runs until there are enough for a histogram."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import repeat

import numpy as np

from headway.metrics.histogram import LogHistogram

DEFINITIONS = {
    "itl": (
        (
            "Inter-token latency: one gap between two consecutive output tokens of a request; "
            "a distribution over the tokens of all requests, whatever their outcome. Tokens of "
            "one speculative step have gap 0."
        ),
        "ms",
    ),
}


class GapRuns:
    """All gaps of one group of requests, in bounded memory. `append(gap_ns)` records one gap."""

    __slots__ = (
        "_counts",
        "_folded",
        "_gaps",
        "_run_tokens",
        "_singles",
        "append",
        "append_all",
        "zeros",
    )

    def __init__(self) -> None:
        self._singles = array("q")
        self.append = self._singles.append  # a bound method: the hot path has no time for a lookup
        self.append_all = self._singles.fromlist
        self.zeros = 0
        self._gaps = array("q")
        self._counts = array("q")
        self._run_tokens = 0
        self._folded = LogHistogram()

    def extend(self, gaps_ns: Iterable[int], count: int) -> None:
        """Record each gap `count` times: the inner gaps of a leap, shared by `count` sequences."""
        before = len(self._gaps)
        self._gaps.extend(gaps_ns)
        added = len(self._gaps) - before
        self._counts.extend(repeat(count, added))
        self._run_tokens += count * added

    @property
    def tokens(self) -> int:
        """Gaps recorded so far, which is tokens without the first of each request."""
        return self._folded.count + len(self._singles) + self._run_tokens + self.zeros

    def fold(self) -> LogHistogram:
        """Move everything into the histogram and return it; it stays ours."""
        if self._singles:
            self._folded.add(np.array(self._singles, np.int64))
            del self._singles[:]  # in place: `append` is bound to it
        if self._gaps:
            self._folded.add(np.array(self._gaps, np.int64), np.array(self._counts, np.int64))
            del self._gaps[:], self._counts[:]
            self._run_tokens = 0
        self._folded.add_zeros(self.zeros)
        self.zeros = 0
        return self._folded
