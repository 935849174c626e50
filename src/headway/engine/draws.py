"""Draw a token from filtered scores: one uniform number per (seed, position), and the inverse distribution.

A draw depends on nothing else: not on who shares the batch, on chunks, preemption, lanes, drafts or restarts.
The uniform comes from a counter-based generator (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC
2011). The distribution is summed in the order of token ids, not of scores: where the last bits of two scores differ
from batch to batch, their order may change, but the sums in front of a token do not.

Filters, in this order: temperature; the k best (Fan et al., "Hierarchical Neural Story Generation", ACL 2018); the
smallest set that holds a share p of what is left (Holtzman et al., "The Curious Case of Neural Text Degeneration",
ICLR 2020); all that are at least a share min_p as likely as the best (Nguyen et al., "Turning Up the Heat: Min-p
Sampling", ICLR 2025). Differs: every filter is a floor under the scores, so equals at its edge are kept together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from numpy.random import Philox
from torch import Tensor

from headway.core.sampling import Sampling
from headway.engine.largest import BLOCK, largest

# Guesses of how many tokens p or min_p leave; beyond them, all are sorted.
CANDIDATES = (128, 1024)
_SEED_BITS = (1 << 64) - 1

# Shapes: R rows, V vocabulary, C candidates: the largest of each row.


def uniform(seed: int, position: int) -> float:
    """Return the number in [0, 1) of a position, the index its token will have in prompt and output."""
    word = int(Philox(key=seed & _SEED_BITS, counter=position).random_raw())
    return (word >> 11) * 2.0**-53


def draw(scores: Tensor, how: Sequence[Sampling], uniforms: Sequence[float]) -> list[int]:
    """Return a token of each row of fp32 scores (R, V), which are overwritten; -1 where they are no numbers."""
    best = scores.amax(-1, keepdim=True)
    temperatures = [sampling.temperature for sampling in how]
    scores -= best  # first: the best is 0 at any temperature, nothing overflows
    scores /= scores.new_tensor(temperatures)[:, None]
    size = scores.shape[-1]
    some = [n for n, sampling in enumerate(how) if _filters(sampling, size)]
    ids = [-1] * len(how)
    if len(some) < len(how):
        every = [n for n in range(len(how)) if n not in set(some)]
        rows = scores[every] if some else scores
        _put(ids, every, pick(rows.exp_(), [uniforms[n] for n in every]))
    count = max((min(size, _guess(how[n])) for n in some), default=0)
    while some:
        rows = scores[some] if len(some) < len(how) else scores
        drawn, whole = _draw_filtered(
            rows, [how[n] for n in some], [uniforms[n] for n in some], count
        )
        _put(ids, some, drawn)
        some = [n for n, known in zip(some, whole, strict=True) if not known]
        count = next((guess for guess in CANDIDATES if count < guess < size), size)
    finite: list[bool] = best[:, 0].isfinite().tolist()
    return [token if good else -1 for token, good in zip(ids, finite, strict=True)]


def pick(weights: Tensor, uniforms: Sequence[float]) -> Tensor:
    """Return, for each row of weights (R, V) >= 0, where their running sum first exceeds its share of the total."""
    size = weights.shape[-1]
    block = BLOCK if size % BLOCK == 0 else size
    blocks = weights.view(len(weights), -1, block)
    sums = blocks.sum(-1).double().cumsum(-1)
    share = torch.tensor(uniforms, dtype=torch.double, device=weights.device)[:, None]
    at, before = _first_above(sums, share * sums[:, -1:])
    inside = blocks.gather(1, at[:, :, None].expand(-1, -1, block))[:, 0].double().cumsum(-1)
    rest = share * sums[:, -1:] - before
    return (at * block + _first_above(inside, rest)[0])[:, 0]


def _first_above(sums: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first place (R, 1) whose running sum exceeds the target, and the sum before it.

    Rounding may put the target at the total, or a little beyond: then the last place that added anything.
    """
    last = sums[:, -1:]
    target = torch.minimum(target, torch.nextafter(last, torch.zeros_like(last)))
    at = torch.searchsorted(sums, target, right=True).clamp_(max=sums.shape[-1] - 1)
    before = torch.where(at > 0, sums.gather(-1, (at - 1).clamp_(min=0)), 0.0)
    return at, before


def _draw_filtered(
    scores: Tensor, how: Sequence[Sampling], uniforms: Sequence[float], count: int
) -> tuple[Tensor, list[bool]]:
    """Draw among the `count` best; also say of each row whether all that its filters keep were among them."""
    values, ids = largest(scores, count)
    size, device = scores.shape[-1], scores.device
    ks = [sampling.top_k if 0 < sampling.top_k < size else 0 for sampling in how]
    k = torch.tensor(ks, device=device)[:, None]
    p = torch.tensor([sampling.top_p for sampling in how], dtype=torch.double, device=device)
    smallest = torch.tensor(
        [math.log(s.min_p) if s.min_p else -math.inf for s in how], device=device
    )
    floor = values.gather(-1, (k - 1).clamp(0, count - 1)).where(k > 0, -math.inf)
    edge = floor  # of the k best
    if any(sampling.top_p < 1 for sampling in how):
        weights = values.double().exp().where(values >= floor, 0.0)
        total = weights.sum(-1, keepdim=True)
        if 0 in ks:
            total = total.where(k > 0, scores.logsumexp(-1, keepdim=True).double().exp())
        before = weights.cumsum(-1) - weights
        kept = ((before < p[:, None] * total) & (weights > 0)).sum(-1, keepdim=True)
        nucleus = values.gather(-1, (kept - 1).clamp_(min=0))
        floor = floor.maximum(nucleus.where(p[:, None] < 1, -math.inf))
    floor = floor.maximum(smallest[:, None])
    least = values[:, -1:]
    known = torch.where(k > 0, edge, floor) > least
    whole: list[bool] = (known | (least == -math.inf) | (count == size))[:, 0].tolist()
    ids, order = ids.sort(-1)
    values = values.gather(-1, order)
    places = pick(values.exp().where(values >= floor, 0.0), uniforms)
    return ids.gather(-1, places[:, None])[:, 0], whole


def _filters(sampling: Sampling, size: int) -> bool:
    return 0 < sampling.top_k < size or sampling.top_p < 1 or sampling.min_p > 0


def _guess(sampling: Sampling) -> int:
    """How many candidates to begin with: with k given, room for equals of the k-th."""
    return 2 * sampling.top_k + 32 if sampling.top_k else CANDIDATES[0]


def _put(ids: list[int], rows: Sequence[int], drawn: Tensor) -> None:
    for row, token in zip(rows, drawn.tolist(), strict=True):
        ids[row] = token
