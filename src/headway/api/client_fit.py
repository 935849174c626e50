"""Fit a coarse profile to requests as a client saw them: no steps, only when tokens began and ended.

Between its first and its last token, a request that is decoded at all is decoded in every step; so its decode time
is a sum over as many steps as it has tokens, each costing a base, so much per decode beside it and per token of
their contexts, and so much per prompt token prefilled in the meantime. Those sums are linear in the coefficients.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headway.api.step_fit import LEAST_STEPS, non_negative
from headway.errors import WorkloadError
from headway.records.client_results import ClientRequest, ClientResults
from headway.timing import KindFit, Pieces, Profile

Floats = npt.NDArray[np.float64]

_GRID = 4000
_PARTS = 10  # of the run, whose median ratios say how much the machine wavers
_REFITS = 8
_HUBER = 1.345


def fit_client_results(results: ClientResults, *, device: str, layers: int) -> Profile:
    """Fit what can be seen from outside.

    Raises:
        WorkloadError: too few requests with more than one token.
        MissingExtraError: scipy is not installed.
    """
    requests = [
        one for one in results.requests if one.output_tokens > 1 and one.last_ns > one.first_ns
    ]
    if len(requests) < LEAST_STEPS:
        raise WorkloadError(
            f"{len(requests)} finished requests with two tokens or more cannot be fitted, "
            f"{LEAST_STEPS} can: measure more"
        )
    matrix, busy = _features(results.requests, requests)
    measured = np.array([one.last_ns - one.first_ns for one in requests], np.float64)
    seen = np.arange(len(requests)) % 5 != 4
    held = ~seen
    trial = _robust(matrix[seen], measured[seen])
    relative = np.abs(matrix[held] @ trial / measured[held] - 1)
    told = KindFit(
        int(held.sum()),
        round(float(relative.mean()), 6),
        round(float(np.quantile(relative, 0.9)), 6),
        round(float((matrix[held] @ trial).sum() / measured[held].sum() - 1), 6),
    )
    found = _robust(matrix, measured)
    base, decode, context, token = map(float, found)
    parts = np.array_split(measured / (matrix @ found), _PARTS)
    return Profile(
        model=results.model,
        device=device,
        layers=layers,
        base_ns=base,
        decodes=Pieces((), (decode,)),
        tokens=Pieces((), (token,)),
        context_ns=context,
        source=results.tool,
        coarse=True,
        steps=int(sum(one.output_tokens for one in results.requests)),
        most_decodes=int(busy),
        most_tokens=max(one.prompt_tokens for one in results.requests),
        drift=tuple(round(float(np.median(part)), 6) for part in parts),
        fit={"decode of a request": told},
    )


def _features(every: list[ClientRequest], wanted: list[ClientRequest]) -> tuple[Floats, float]:
    """Steps, decodes and contexts summed over them, prompt tokens prefilled meanwhile; and the largest batch."""
    start = min(one.first_ns for one in every)
    end = max(one.last_ns for one in every)
    grid = np.linspace(start, end, _GRID)
    decoding, context = np.zeros(_GRID), np.zeros(_GRID)
    for one in every:
        low, high = np.searchsorted(grid, (one.first_ns, one.last_ns))
        decoding[low:high] += 1
        if one.last_ns > one.first_ns:
            share = (grid[low:high] - one.first_ns) / (one.last_ns - one.first_ns)
            context[low:high] += one.prompt_tokens + one.output_tokens * share
    firsts = np.array(sorted((one.first_ns, one.prompt_tokens) for one in every), np.float64)
    prefilled = np.concatenate(([0.0], np.cumsum(firsts[:, 1])))
    rows = []
    for one in wanted:
        low, high = np.searchsorted(grid, (one.first_ns, one.last_ns))
        span = slice(low, max(high, low + 1))
        steps = one.output_tokens - 1
        # Its own prompt was computed before its first token: only later first tokens count.
        inside = np.searchsorted(firsts[:, 0], (one.first_ns, one.last_ns), side="right")
        tokens = prefilled[inside[1]] - prefilled[inside[0]]
        beside = max(1.0, float(decoding[span].mean()))
        rows.append((steps, steps * beside, steps * float(context[span].mean()), tokens))
    return np.array(rows, np.float64), float(decoding.max())


def _robust(matrix: Floats, measured: Floats) -> Floats:
    relative, ones = matrix / measured[:, None], np.ones(len(measured))
    found = non_negative(relative, ones)
    for _ in range(_REFITS):
        errors = relative @ found - 1
        scale = 1.4826 * float(np.median(np.abs(errors))) + 1e-9
        root = np.sqrt(np.minimum(1.0, _HUBER * scale / np.maximum(np.abs(errors), 1e-12)))
        found = non_negative(relative * root[:, None], root)
    return found
