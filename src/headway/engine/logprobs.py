"""How likely the model itself found a token, and what it would rather have said: before anything was adjusted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from headway.core.sampling import TokenLogprob
from headway.engine.largest import largest


def logprobs(scores: Tensor, taken: Sequence[int], counts: Sequence[int]) -> list[TokenLogprob]:
    """Return, for each row of fp32 scores (R, V), its taken token's and the `counts[row]` best tokens'.

    Natural logarithms. Equals come in the order of their ids; a token the model excludes is no alternative.
    """
    total = scores.logsumexp(-1, keepdim=True)
    own = (scores.gather(-1, torch.tensor(taken, device=scores.device)[:, None]) - total)[:, 0]
    most = min(max(counts), scores.shape[-1])
    if not most:
        return [TokenLogprob(logprob) for logprob in own.tolist()]
    values, ids = largest(scores, most)
    found = []
    for logprob, count, of, row in zip(
        own.tolist(), counts, ids.tolist(), (values - total).tolist(), strict=True
    ):
        best = sorted(
            zip(of[:count], row[:count], strict=True), key=lambda each: (-each[1], each[0])
        )
        found.append(TokenLogprob(logprob, tuple(each for each in best if each[1] > -math.inf)))
    return found
