"""Did the run offer more than the system can take? Then its latencies measure how long the run was.

Looks at the second half of the arrivals only, so that filling an empty system is not mistaken for
overload, and at requests that start (not finish), so that long answers in a short run are not
either.
"""

from __future__ import annotations

import numpy as np

from headway.core import NS_PER_S
from headway.core.fleet import ABORTED, FINISHED_OK
from headway.metrics.histogram import Floats, Ints
from headway.metrics.latency import Columns
from headway.metrics.recorder import COLUMNS, Recorder

DEFINITIONS = {
    "offered_exceeds_capacity": (
        (
            "One sentence when, over the second half of the arrivals, more than 5 % of the "
            "offered requests (and more than chance explains) were turned away or piled up "
            "waiting, or queue delay kept rising; else null."
        ),
        "text",
    ),
}

_LEAST_REQUESTS = 20
_TOLERATED = 0.05
_SIGMAS = 2.0
_BATCHES = 8
_RISING_PAIRS = 0.7  # Kendall's tau of 8 batch medians: p < 0.01
_RISE = 2.0


def offered_exceeds_capacity(recorder: Recorder) -> str | None:
    """Return the verdict in one sentence, or None when the system kept up or too little was offered to
    say.

    Requests that have not ended count as waiting: read a run after it ended.
    """
    arrivals = np.sort(np.array(recorder.arrivals, np.int64))
    if len(arrivals) < _LEAST_REQUESTS or arrivals[-1] == arrivals[0]:
        return None
    rows = recorder.rows()
    ended = {name: rows[:, index] for index, name in enumerate(COLUMNS)}
    begin, stop = (arrivals[0] + arrivals[-1]) // 2, arrivals[-1]
    offered = int(np.count_nonzero((arrivals > begin) & (arrivals <= stop)))
    seconds = (stop - begin) / NS_PER_S
    limit = max(_TOLERATED * offered, _SIGMAS * offered**0.5)

    kept = np.isin(
        ended["outcome"], [recorder.outcomes.index(kind) for kind in (FINISHED_OK, ABORTED)]
    )
    turned_away = int(np.count_nonzero(~kept & (ended["arrival"] > begin)))
    left_queue = np.sort(np.where(ended["started"] >= 0, ended["started"], ended["end"]))
    growth = _waiting(arrivals, left_queue, stop) - _waiting(arrivals, left_queue, begin)
    piled_up = max(growth, 0)
    rate = offered / seconds
    if turned_away + piled_up > limit:
        return (
            f"Offered load exceeds capacity: in the second half {rate:.4g} requests/s arrived, "
            f"{100 * turned_away / offered:.0f} % of them were turned away and {piled_up} piled "
            "up waiting; lower the rate or add capacity."
        )
    early, late = _rising(ended)
    if late:
        return (
            f"Offered load exceeds capacity: at {rate:.4g} requests/s the queue delay kept "
            f"rising, from a median of {early:.3g} s to {late:.3g} s; lower the rate or add "
            "capacity."
        )
    return None


def _waiting(arrivals: Ints, left_queue: Ints, time_ns: int) -> int:
    """Arrived and in no step yet at `time_ns`."""
    before = np.searchsorted(arrivals, time_ns, side="right") - np.searchsorted(
        left_queue, time_ns, side="right"
    )
    return int(before)


def _rising(ended: Columns) -> tuple[float, float]:
    """Median queue delay (s) early and late when it rose batch by batch to matter; else zeros."""
    some = ended["started"] >= 0
    order = np.argsort(ended["arrival"][some], kind="stable")
    delays = (ended["started"] - ended["arrival"])[some][order]
    delays = delays[len(delays) // 4 :]  # the system fills first
    if len(delays) < _BATCHES * 4:
        return 0.0, 0.0
    medians: Floats = np.array([np.median(part) for part in np.array_split(delays, _BATCHES)])
    signs = np.sign(medians[None, :] - medians[:, None])[np.triu_indices(_BATCHES, 1)]
    spread = np.median(ended["last"][some] - ended["started"][some])
    early, late = float(medians[0]), float(medians[-1])
    rises = (
        signs.mean() >= _RISING_PAIRS
        and late > _RISE * early
        and late - early > _TOLERATED * spread
    )
    return (early / NS_PER_S, late / NS_PER_S) if rises else (0.0, 0.0)
