"""What a workload is like: the numbers that decide how hard it is to serve."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headway.core import NS_PER_S
from headway.core.protocols import Offer

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Description:
    """Rates are requests per second over the span from first to last arrival.

    NaN where too few requests tell. `reuse` is the share of prefix tokens that an infinite cache would
    hold when each request arrives; 0 for workloads without prefixes.
    """

    requests: int
    span_s: float
    rate_rps: float
    gap_cv: float
    gap_gamma_shape: (
        float  # maximum likelihood over gaps above 0, NaN when over 5 % are 0; 1 is Poisson
    )
    dispersion_1s: float  # variance / mean of the count per 1 s window; 1 is Poisson
    dispersion_60s: float
    prompt_mean: float
    prompt_p50: float
    prompt_p99: float
    output_mean: float
    output_p50: float
    output_p99: float
    reuse: float


def describe(offers: Iterable[Offer]) -> Description:
    """Read all offers, which must end; holds three numbers of each and the set of extents."""
    arrivals: list[int] = []
    prompts: list[int] = []
    outputs: list[int] = []
    seen: set[int] = set()
    hit_tokens = prefix_tokens = 0
    for offer in offers:
        request = offer.request
        arrivals.append(request.arrival_ns)
        prompts.append(request.prompt_tokens)
        outputs.append(offer.output_tokens)
        for extent, tokens in request.prefix:
            prefix_tokens += tokens
            if extent in seen:  # names its content and all before: seen means all before was seen
                hit_tokens += tokens
            else:
                seen.add(extent)
        if request.next_extent is not None:
            seen.add(request.next_extent)
    times_s = np.array(arrivals, dtype=np.float64) / NS_PER_S
    gaps = np.diff(times_s)
    span_s = float(times_s[-1] - times_s[0]) if arrivals else 0.0
    # Recorders that round times make ties, and what is left between them is no Gamma sample.
    few_ties = bool(np.count_nonzero(gaps == 0) <= 0.05 * len(gaps))
    mean_gap = float(gaps.mean()) if len(gaps) else 0.0
    return Description(
        requests=len(arrivals),
        span_s=span_s,
        rate_rps=1 / mean_gap if mean_gap else math.nan,
        gap_cv=float(gaps.std()) / mean_gap if mean_gap else math.nan,
        gap_gamma_shape=gamma_shape(gaps[gaps > 0]) if few_ties else math.nan,
        dispersion_1s=dispersion(times_s, 1.0),
        dispersion_60s=dispersion(times_s, 60.0),
        prompt_mean=_mean(prompts),
        prompt_p50=_percentile(prompts, 50),
        prompt_p99=_percentile(prompts, 99),
        output_mean=_mean(outputs),
        output_p50=_percentile(outputs, 50),
        output_p99=_percentile(outputs, 99),
        reuse=hit_tokens / prefix_tokens if prefix_tokens else 0.0,
    )


def dispersion(times_s: Numbers, window_s: float) -> float:
    """Variance over mean of the counts in whole windows; NaN with fewer than two of them."""
    if not len(times_s):
        return math.nan
    windows = int((times_s[-1] - times_s[0]) // window_s)
    if windows < 2:
        return math.nan
    index = ((times_s - times_s[0]) // window_s).astype(np.int64)
    counts = np.bincount(index, minlength=windows)[:windows]
    return float(counts.var() / counts.mean())


def gamma_shape(values: Numbers) -> float:
    """Maximum-likelihood shape of a Gamma distribution: log k - digamma(k) = log mean - mean log.

    NaN when the values do not vary. Newton's method in log k from Minka's closed approximation (2002).
    """
    if not len(values):
        return math.nan
    spread = math.log(float(values.mean())) - float(np.log(values).mean())
    if spread <= 0:
        return math.nan
    shape = (3 - spread + math.sqrt((spread - 3) ** 2 + 24 * spread)) / (12 * spread)
    for _ in range(8):
        step = 1e-5 * shape
        slope = (_excess(shape + step) - _excess(shape - step)) / (2 * step)
        shape *= math.exp((spread - _excess(shape)) / (slope * shape))
    return shape


def _excess(shape: float) -> float:
    """Return log k - digamma(k), by recurrence up to where the asymptotic series is exact enough."""
    digamma, x = 0.0, shape
    while x < 8:
        digamma -= 1 / x
        x += 1
    square = 1 / (x * x)
    digamma += math.log(x) - 0.5 / x - square * (1 / 12 - square * (1 / 120 - square / 252))
    return math.log(shape) - digamma


def _mean(values: list[int]) -> float:
    return float(np.mean(values)) if values else math.nan


def _percentile(values: list[int], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else math.nan
