"""Gaps between output tokens: (gap, count) runs until there are enough for a histogram."""

from __future__ import annotations

from array import array
from collections.abc import Sequence as Seq
from itertools import chain

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
    """All gaps of one group of requests, in bounded memory. `append(gap_ns)` records one gap, `append_all` a list."""

    __slots__ = ("_folded", "_run_tokens", "_runs", "_singles", "append", "append_all", "zeros")

    def __init__(self) -> None:
        self._singles = array("q")
        self.append = self._singles.append  # a bound method: the hot path has no time for a lookup
        self.append_all = self._singles.fromlist
        self.zeros = 0
        self._runs: list[tuple[Seq[int], int]] = []
        self._run_tokens = 0
        self._folded = LogHistogram()

    def add_run(self, ends_ns: Seq[int], count: int) -> None:
        """Record the gaps between the ends of a leap, each `count` times: its sequences share them.

        Keeps `ends_ns`: it must not change any more.
        """
        self._runs.append((ends_ns, count))
        self._run_tokens += count * (len(ends_ns) - 1)

    @property
    def tokens(self) -> int:
        """Gaps recorded so far, which is tokens without the first of each request."""
        return self._folded.count + len(self._singles) + self._run_tokens + self.zeros

    def fold(self) -> LogHistogram:
        """Move everything into the histogram and return it; it stays ours."""
        if self._singles:
            self._folded.add(np.array(self._singles, np.int64))
            del self._singles[:]  # in place: `append` is bound to it
        if self._runs:
            lengths = np.array([len(ends) for ends, _ in self._runs])
            ends = np.fromiter(chain.from_iterable(ends for ends, _ in self._runs), np.int64)
            inside = np.ones(len(ends) - 1, bool)
            inside[np.cumsum(lengths)[:-1] - 1] = (
                False  # from one run's end to the next run's start
            )
            counts = np.repeat([count for _, count in self._runs], lengths - 1)
            self._folded.add(np.diff(ends)[inside], counts)
            self._runs.clear()
            self._run_tokens = 0
        self._folded.add_zeros(self.zeros)
        self.zeros = 0
        return self._folded
