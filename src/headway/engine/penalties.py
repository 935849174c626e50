"""Make what was said before less likely, and forbid or favour single tokens.

Repetition divides a positive score and multiplies a negative one, of every token in prompt and output (Keskar et
al., "CTRL", 2019); presence and frequency subtract, for tokens of the output, once or once for each time (OpenAI's
API). Cost: O(distinct tokens) a row; the rows of a step go through together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headway.core.sampling import Sampling

Ids = NDArray[np.int64]
Values = NDArray[np.float32]


class History:
    """Which tokens a text holds, and how often its output does. Grows with the text."""

    def __init__(self, prompt: Iterable[int]) -> None:
        ids = np.unique(np.fromiter(prompt, np.int64))
        self._places = {token: place for place, token in enumerate(ids.tolist())}
        self._prompt = len(ids)  # places before it are the prompt's
        self._ids, self._counts = ids, np.zeros(len(ids), np.float32)

    def add(self, token: int) -> None:
        """Note a token of the output."""
        place = self._places.setdefault(token, len(self._places))
        if place >= len(self._ids):
            room = max(16, place)
            self._ids = np.concatenate((self._ids, np.zeros(room, np.int64)))
            self._counts = np.concatenate((self._counts, np.zeros(room, np.float32)))
        self._ids[place] = token
        self._counts[place] += 1

    def take_back(self, token: int) -> None:
        """Undo one `add`."""
        self._counts[self._places[token]] -= 1

    def seen(self) -> tuple[Ids, Values]:
        """Return the distinct tokens and their counts in the output. Copies: the history may go on."""
        size = len(self._places)
        keep = self._counts[:size] > 0
        keep[: self._prompt] = True
        return self._ids[:size][keep], self._counts[:size][keep]


class Adjustments:
    """Changes to single scores of some rows (R, V), gathered first and then made together."""

    def __init__(self) -> None:
        self._rows: list[Ids] = []
        self._ids: list[Ids] = []
        self._divide: list[Values] = []
        self._subtract: list[Values] = []
        self._added: list[tuple[int, Ids, Values]] = []

    def penalise(self, row: int, sampling: Sampling, history: History) -> None:
        """Take the penalties of a row, whose history is as it was before that row's token."""
        ids, counts = history.seen()
        self._rows.append(np.full(len(ids), row))
        self._ids.append(ids)
        self._divide.append(np.full(len(ids), sampling.repetition_penalty, np.float32))
        less = sampling.frequency_penalty * counts + sampling.presence_penalty * (counts > 0)
        self._subtract.append(less.astype(np.float32))

    def add(self, row: int, ids: Ids, values: Values) -> None:
        """Take a bias, or -inf for what is forbidden; applied after the penalties, in the order of the calls."""
        self._added.append((row, ids, values))

    def apply(self, scores: Tensor) -> None:
        """Change fp32 scores (R, V) in place."""
        if self._rows:
            at = _on(scores, self._rows), _on(scores, self._ids)
            values, divide = scores[at], _on(scores, self._divide)
            values = torch.where(values > 0, values / divide, values * divide)
            scores[at] = values - _on(scores, self._subtract)
        for row, ids, added in self._added:
            scores[row].index_add_(0, _on(scores, [ids]), _on(scores, [added]))


def forbid(ids: Iterable[int]) -> tuple[Ids, Values]:
    """Return what to `add` so that these are never chosen."""
    ids = np.fromiter(ids, np.int64)
    return ids, np.full(len(ids), -math.inf, np.float32)


def favour(bias: Sequence[tuple[int, float]]) -> tuple[Ids, Values]:
    """Return what to `add` for a request's bias."""
    ids = np.fromiter((token for token, _ in bias), np.int64)
    return ids, np.fromiter((value for _, value in bias), np.float32)


def _on(scores: Tensor, arrays: Sequence[NDArray[np.int64] | NDArray[np.float32]]) -> Tensor:
    return torch.from_numpy(np.concatenate(arrays)).to(scores.device)
