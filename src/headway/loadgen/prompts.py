"""Prompts of wanted lengths that share what their workload says they share.

An extent of a prefix (hash, tokens) becomes a run of tokens drawn from a generator seeded by its hash: equal
hashes give equal tokens, in any order and in any process. What no extent covers is drawn from the
request's own id. A salt keeps two runs apart, so that the second does not find the first one's prompts
in the server's prefix cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import msgspec
import numpy as np

from headway.core import Request
from headway.errors import OptionError
from headway.loadgen.endpoint import CHAT, Endpoint
from headway.loadgen.words import WORDS

DEFAULT_IDS = (1000, 30_000)
"""Ordinary tokens in every large vocabulary: above control tokens, below the end of the smallest."""

_SHARED, _OWN = 0, 1  # streams of extents and of requests never meet
_KEPT_RUNS = 8192
_MASK = (1 << 64) - 1


def ids_within(vocabulary: int) -> tuple[int, int]:
    """The first and last id to draw from, for a vocabulary of that size; 0: unknown."""
    if not vocabulary or vocabulary > DEFAULT_IDS[1]:
        return DEFAULT_IDS
    low = min(DEFAULT_IDS[0], vocabulary // 2)
    return low, vocabulary - 1


@dataclass(frozen=True, slots=True)
class WordRate:
    """Tokens of `words` words: `overhead + each · words`. Calibrated, see `calibrate`."""

    each: float = 1.0
    overhead: float = 0.0

    def words(self, tokens: int) -> int:
        """Words whose tokens come nearest, the overhead left out."""
        return round(tokens / self.each)


class Prompts:
    """Makes request bodies for one endpoint, as bytes: ids for completions, words otherwise.

    `body` costs about 0.1 µs a token for runs not seen lately; shared runs are kept encoded.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        salt: int = 0,
        ids: tuple[int, int] = DEFAULT_IDS,
        words: WordRate | None = None,
    ) -> None:
        """`words` not None: prompts are words, else ids from `ids` (both ends included)."""
        if endpoint.kind == CHAT and words is None:
            raise OptionError("a chat endpoint takes words, not token ids: use completions for ids")
        low, high = ids
        if not 0 <= low < high:
            raise OptionError(
                f"token ids from {low} to {high}: give a rising range such as 1000:30000"
            )
        self._endpoint = endpoint
        self._salt = salt & _MASK
        self._rate = words
        choices = range(low, high + 1) if words is None else WORDS
        self._pieces = np.array([str(piece) for piece in choices], object)
        self._glue = "," if words is None else " "
        self._run: Callable[[int, int, int], str] = lru_cache(_KEPT_RUNS)(self._drawn)
        self._tail = self._encoded_tail()

    def body(self, request: Request, output_tokens: int) -> bytes:
        """The whole request body: a prompt of the request's length, and how much to answer."""
        text = self.prompt(request)
        if self._endpoint.kind == CHAT:
            prompt = f'"messages":[{{"role":"user","content":"{text}"}}]'
        else:
            prompt = f'"prompt":"{text}"' if self._rate is not None else f'"prompt":[{text}]'
        return f'{{{prompt},"max_tokens":{output_tokens},{self._tail}'.encode()

    def prompt(self, request: Request) -> str:
        """The prompt alone: ids with commas, or words with spaces."""
        wanted = request.prompt_tokens
        rate = self._rate
        if rate is not None:
            wanted = max(1, rate.words(max(1, round(wanted - rate.overhead))))
        runs = []
        left = wanted
        for name, tokens in request.prefix:
            count = min(left, tokens if rate is None else rate.words(tokens))
            if count:
                runs.append(self._run(_SHARED, name & _MASK, count))
                left -= count
        if left:
            runs.append(self._drawn(_OWN, request.id & _MASK, left))
        return self._glue.join(runs)

    def _drawn(self, stream: int, name: int, count: int) -> str:
        rng = np.random.default_rng((self._salt, stream, name))
        drawn = self._pieces[rng.integers(0, len(self._pieces), count)]
        return self._glue.join(drawn.tolist())

    def _encoded_tail(self) -> str:
        told: dict[str, object] = {
            "model": self._endpoint.model,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self._endpoint.extra,
        }
        return msgspec.json.encode(told).decode()[1:]
