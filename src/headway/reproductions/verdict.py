"""One rule for all claims, fixed before the first was tried.

`reproduced`: the interval of the gain excludes no gain, the gain is at least half the paper's in log terms, and the
null gain is within 5 % of 1. `partly`: the first and the last only. Else `not reproduced`.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from math import exp, inf, log, sqrt
from statistics import fmean, stdev

from headway.errors import OptionError

REPRODUCED, PARTLY, NOT_REPRODUCED = "reproduced", "partly", "not reproduced"
LEAST_SEEDS = 5
NULL_TOLERANCE = 0.05
LEVEL = 0.95
# Two-sided 95 % quantiles of Student's t by degrees of freedom, from any table; beyond, the normal's.
_T = {4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 14: 2.145, 19: 2.093, 29: 2.045}


@dataclass(frozen=True)
class Verdict:
    """Gains are geometric means over seeds, ratios above 1 in the better direction."""

    verdict: str
    gain: float
    interval: tuple[float, float]
    null_gain: float
    reasons: tuple[str, ...]  # why it is not `reproduced`


def gains(ours: Seq[float], theirs: Seq[float], *, higher_is_better: bool) -> list[float]:
    """Paired gains by seed.

    Two arms that are both worth nothing are equal; one that alone is worth nothing loses without measure.
    """
    pairs = zip(ours, theirs, strict=True)
    return [_ratio(a, b) if higher_is_better else _ratio(b, a) for a, b in pairs]


def interval(paired: Seq[float]) -> tuple[float, float]:
    """95 % interval of the geometric mean, by Student's t on the logarithms."""
    if 0 in paired or inf in paired:
        return (min(paired), max(paired))
    logs = [log(gain) for gain in paired]
    free = len(logs) - 1
    quantile = _T[max(known for known in _T if known <= free)] if free >= min(_T) else inf
    half = quantile * stdev(logs) / sqrt(len(logs)) if free else inf
    return exp(fmean(logs) - half), exp(fmean(logs) + half)


def mean_gain(paired: Seq[float]) -> float:
    """Geometric mean; 0 or infinity when a seed says so."""
    if 0 in paired:
        return 0.0
    return inf if inf in paired else exp(fmean([log(gain) for gain in paired]))


def judge(paired: Seq[float], null: Seq[float], paper_gain: float) -> Verdict:
    """Apply the rule.

    Raises:
        OptionError: fewer than five seeds.
    """
    if min(len(paired), len(null)) < LEAST_SEEDS:
        raise OptionError(f"{min(len(paired), len(null))} seeds: the rule needs {LEAST_SEEDS}")
    gain, bounds, null_gain = mean_gain(paired), interval(paired), mean_gain(null)
    better = bounds[0] > 1
    enough = gain > 0 and log(gain) >= log(paper_gain) / 2
    quiet = abs(null_gain - 1) <= NULL_TOLERANCE
    reasons = []
    if not better:
        reasons.append(f"the interval {bounds[0]:.3g} to {bounds[1]:.3g} does not exclude no gain")
    if not enough:
        least = exp(log(paper_gain) / 2)
        reasons.append(
            f"the gain {gain:.3g} is below {least:.3g}, half of {paper_gain:.3g} in logs"
        )
    if not quiet:
        reasons.append(f"the null gain {null_gain:.3g} is not within 5 % of 1")
    verdict = NOT_REPRODUCED
    if better and quiet:
        verdict = REPRODUCED if enough else PARTLY
    return Verdict(verdict, gain, bounds, null_gain, tuple(reasons))


def _ratio(a: float, b: float) -> float:
    if a == b:
        return 1.0
    return inf if b <= 0 else max(a, 0.0) / b
