"""The curves of one run, ready for JSON and for a page: distributions, and attainment over time."""

from __future__ import annotations

from typing import Any

import numpy as np

from headway.core import NS_PER_MS, NS_PER_S
from headway.metrics import latency
from headway.metrics.histogram import Floats, Ints
from headway.metrics.recorder import COLUMNS, Recorder
from headway.metrics.summary import attained_mask

_POINTS = 400
_BINS = 60


def curves(recorder: Recorder) -> dict[str, Any]:
    """Return `cdf`: metric -> class -> [ms, shares], and `over_time`: lists by bin of arrival time.

    A bin without arrivals has attainment None; its length is `bin_s`, its `t_s` counts from the
    first arrival.
    """
    rows = recorder.rows()
    ended = {name: rows[:, index] for index, name in enumerate(COLUMNS)}
    classes = sorted({group.slo_class for group in recorder.groups})
    cdf: dict[str, dict[str, list[list[float]]]] = {
        name: {} for name in ("ttft", "tpot", "itl", "e2el")
    }
    for slo_class in classes:
        members = [group.index for group in recorder.groups if group.slo_class == slo_class]
        mine = np.isin(ended["group"], members) & (ended["outcome"] == 0)
        finished = {name: column[mine] for name, column in ended.items()}
        cdf["ttft"][slo_class] = _cdf(latency.ttft_ns(finished))
        cdf["tpot"][slo_class] = _cdf(latency.tpot_ns(finished))
        cdf["e2el"][slo_class] = _cdf(latency.e2el_ns(finished))
        histogram = recorder.itl(slo_class=slo_class)
        if histogram is not None:
            cdf["itl"][slo_class] = _points(*histogram.cdf(_POINTS))
    return {"cdf": cdf, "over_time": _over_time(recorder, ended)}


def _cdf(values_ns: Ints | Floats) -> list[list[float]]:
    if not len(values_ns):
        return [[], []]
    ordered = np.sort(values_ns).astype(np.float64)
    ranks = np.unique(np.linspace(0, len(ordered) - 1, min(_POINTS, len(ordered))).astype(np.int64))
    return _points(ordered[ranks], (ranks + 1) / len(ordered))


def _points(values_ns: Floats, shares: Floats) -> list[list[float]]:
    return [np.round(values_ns / NS_PER_MS, 6).tolist(), np.round(shares, 6).tolist()]


def _over_time(recorder: Recorder, ended: dict[str, Ints]) -> dict[str, Any]:
    arrivals = np.array(recorder.arrivals, np.int64)
    if not len(arrivals):
        return {"bin_s": 0.0, "t_s": [], "offered_rps": [], "attainment": []}
    begin, stop = int(arrivals.min()), int(arrivals.max())
    width = max(1, -(-(stop - begin + 1) // _BINS))
    offered = np.bincount((arrivals - begin) // width, minlength=_BINS)
    good = np.bincount((ended["arrival"][attained_mask(ended)] - begin) // width, minlength=_BINS)
    seconds = width / NS_PER_S
    return {
        "bin_s": seconds,
        "t_s": [round(index * seconds, 6) for index in range(_BINS)],
        "offered_rps": np.round(offered / seconds, 6).tolist(),
        "attainment": [
            round(int(g) / int(n), 6) if n else None for g, n in zip(good, offered, strict=True)
        ],
    }
