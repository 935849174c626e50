"""Choose the next tokens of a batch from the model's scores.

Greedy rows cost one look for the largest score; the others are copied out and taken a few at a time. Order, as in
vLLM: penalties (repetition, then frequency and presence), bias, what must not be said yet, temperature, top-k,
top-p, min-p. Differs: vLLM's newer sampler applies the bias before the penalties, and min-p before top-k.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from headway.core.sampling import Sampling, TokenLogprob
from headway.engine.draws import draw, uniform
from headway.engine.largest import peak
from headway.engine.logprobs import logprobs
from headway.engine.penalties import Adjustments, History, favour, forbid

COLDEST = 1e-5  # lower temperatures are greedy
AT_ONCE = 4  # shaped rows that are copied out together: few enough to stay in a core's cache

# Shapes: N rows of the step, R of them at once, V vocabulary.


class Chooser:
    """How the tokens of one request are chosen, and what it has said so far. `ends` are the ids that end it."""

    __slots__ = (
        "_bias",
        "_forbidden",
        "_history",
        "_known",
        "_prompt_tokens",
        "draws",
        "penalises",
        "sampling",
    )

    def __init__(self, sampling: Sampling, ends: frozenset[int], prompt_tokens: int) -> None:
        self.sampling, self._prompt_tokens = sampling, prompt_tokens
        self.draws = sampling.temperature >= COLDEST
        self.penalises = (
            sampling.repetition_penalty != 1
            or sampling.presence_penalty != 0
            or sampling.frequency_penalty != 0
        )
        self._bias = favour(sampling.logit_bias) if sampling.logit_bias else None
        self._forbidden = forbid(sorted(ends)) if ends and sampling.min_tokens else None
        self._history: History | None = None
        self._known = 0  # tokens of the text that the history holds

    def follow(self, tokens: Sequence[int]) -> None:
        """Learn the text so far, prompt and output; call before choosing what comes after it."""
        if not self.penalises:
            return
        if self._history is None or len(tokens) < self._known:
            repeats = self.sampling.repetition_penalty != 1
            self._history = History(tokens[: self._prompt_tokens] if repeats else ())
            self._known = self._prompt_tokens
        for token in tokens[self._known :]:
            self._history.add(token)
        self._known = len(tokens)

    def plain(self, position: int) -> bool:
        """Is the token at this position simply the one with the best score?"""
        return not (self.draws or self.penalises or self._bias or self._too_early(position))

    def adjust(
        self, row: int, position: int, ahead: Sequence[int], adjustments: Adjustments
    ) -> None:
        """Say how to change the scores of a row: the token at `position`, with `ahead` said before it."""
        if self._history is not None:
            for token in ahead:
                self._history.add(token)
            try:
                adjustments.penalise(row, self.sampling, self._history)
            finally:
                for token in ahead:
                    self._history.take_back(token)
        if self._bias:
            adjustments.add(row, *self._bias)
        if self._forbidden and self._too_early(position):
            adjustments.add(row, *self._forbidden)

    def _too_early(self, position: int) -> bool:
        """May it not end here yet?"""
        return (
            self._forbidden is not None
            and position - self._prompt_tokens < self.sampling.min_tokens
        )


class Row(NamedTuple):
    """One row of scores: whose it is, the index its token will have, and the drafts taken for granted before it."""

    chooser: Chooser
    position: int
    ahead: Sequence[int] = ()


class Choices(NamedTuple):
    """The token of each row, -1 where the scores are no numbers; log-probabilities of rows that asked."""

    ids: list[int]
    logprobs: dict[int, TokenLogprob]


def choose(scores: Tensor, rows: Sequence[Row]) -> Choices:
    """Choose a token for each row of scores (N, V) of any floating type, which are left as they are."""
    shaped = [n for n, row in enumerate(rows) if not row.chooser.plain(row.position)]
    ids = greedy(scores) if len(shaped) < len(rows) else [-1] * len(rows)
    for begin in range(0, len(shaped), AT_ONCE):
        some = shaped[begin : begin + AT_ONCE]
        chosen = _shaped(scores[some].float(), [rows[n] for n in some])
        for n, token in zip(some, chosen, strict=True):
            ids[n] = token
    asked = [n for n, row in enumerate(rows) if row.chooser.sampling.logprobs is not None]
    return Choices(ids, _logprobs(scores, rows, ids, [n for n in asked if ids[n] >= 0]))


def greedy(scores: Tensor) -> list[int]:
    """Return the best token of each row of scores (N, V), -1 where the best score is no number."""
    best = peak(scores)
    ids: list[int] = best.ids.where(best.values.isfinite(), -1)[:, 0].tolist()
    return ids


def _shaped(scores: Tensor, rows: Sequence[Row]) -> list[int]:
    """Choose for rows that ask for more than the best; overwrites their fp32 scores (R, V)."""
    adjustments = Adjustments()
    for n, row in enumerate(rows):
        row.chooser.adjust(n, row.position, row.ahead, adjustments)
    adjustments.apply(scores)
    drawn = [n for n, row in enumerate(rows) if row.chooser.draws]
    ids = greedy(scores) if len(drawn) < len(rows) else [-1] * len(rows)
    if drawn:
        how = [rows[n].chooser.sampling for n in drawn]
        uniforms = [uniform(s.seed, rows[n].position) for n, s in zip(drawn, how, strict=True)]
        among = scores[drawn] if len(drawn) < len(rows) else scores
        for n, token in zip(drawn, draw(among, how, uniforms), strict=True):
            ids[n] = token
    return ids


def _logprobs(
    scores: Tensor, rows: Sequence[Row], ids: Sequence[int], asked: Sequence[int]
) -> dict[int, TokenLogprob]:
    found: dict[int, TokenLogprob] = {}
    for begin in range(0, len(asked), AT_ONCE):
        some = asked[begin : begin + AT_ONCE]
        counts = [rows[n].chooser.sampling.logprobs or 0 for n in some]
        taken = logprobs(scores[some].float(), [ids[n] for n in some], counts)
        found.update(zip(some, taken, strict=True))
    return found
