"""Can a request be computed as it is? Asked once, before its first step, so that it fails alone."""

from __future__ import annotations

import math
from collections.abc import Iterable

from headway.core.sampling import Sampling

MOST = 1e6  # beyond it, and below its inverse, fp32 scores would lose all else


def why_not(
    prompt_ids: Iterable[int], sampling: Sampling, ends: frozenset[int], vocabulary: int
) -> str:
    """Return the reason, or nothing. `ends` are the ids that would end it."""
    named = (
        ("in the prompt", prompt_ids),
        ("in logit_bias", (token for token, _ in sampling.logit_bias)),
        ("in stop_ids", sampling.stop_ids),
    )
    for where, ids in named:
        outside = _outside(ids, vocabulary)
        if outside is not None:
            return (
                f"token id {outside} {where}, this model has ids 0 to {vocabulary - 1}:"
                " tokenise with its own vocabulary"
            )
    if sampling.min_tokens and len(ends) >= vocabulary:
        return (
            f"min_tokens={sampling.min_tokens} and every token ends the output: name fewer stop_ids"
        )
    return _impossible(sampling)


def _outside(ids: Iterable[int], vocabulary: int) -> int | None:
    """Return an id that the model does not have. Prompts are long: no look at each id in Python."""
    ids = list(ids)
    if not ids:
        return None
    low, high = min(ids), max(ids)
    return low if low < 0 else high if high >= vocabulary else None


def _impossible(sampling: Sampling) -> str:
    limits: tuple[tuple[str, float, float, float], ...] = (
        ("temperature", sampling.temperature, 0, MOST),
        ("top_k", sampling.top_k, 0, math.inf),
        ("top_p", sampling.top_p, math.ulp(0.0), 1),
        ("min_p", sampling.min_p, 0, 1),
        ("repetition_penalty", sampling.repetition_penalty, 1 / MOST, MOST),
        ("presence_penalty", sampling.presence_penalty, -MOST, MOST),
        ("frequency_penalty", sampling.frequency_penalty, -MOST, MOST),
        ("min_tokens", sampling.min_tokens, 0, math.inf),
        ("logprobs", sampling.logprobs or 0, 0, math.inf),
        *(("logit_bias", bias, -MOST, MOST) for _, bias in sampling.logit_bias),
    )
    for name, value, low, high in limits:
        if not low <= value <= high:  # nor is NaN
            return f"{name}={value} is outside {low:g} to {high:g}: ask for a value in between"
    return ""
