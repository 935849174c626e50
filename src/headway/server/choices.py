"""One answer in the making: pieces in, text and the reason of its end out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from headway.checkpoint.detokenizer import Detokenizer
from headway.checkpoint.stop_strings import StopStrings
from headway.checkpoint.tokenizer import Tokenizer
from headway.core.fleet import FINISHED_OK
from headway.core.sampling import TokenLogprob
from headway.server.errors import ended_early
from headway.server.stream import Piece, Prompt, Stream
from headway.server.validation import Asked


class Delta(NamedTuple):
    """What one piece added to an answer. The last has a `finish_reason`: stop or length."""

    text: str
    ids: Sequence[int] = ()
    logprobs: Sequence[TokenLogprob] = ()
    finish_reason: str | None = None
    stop_reason: int | str | None = None  # the stop token or string, unless it is the model's own


class Choice:
    """Turns the pieces of one stream into deltas, and ends the stream when a stop string is hit."""

    def __init__(
        self, index: int, prompt: Prompt, stream: Stream, tokenizer: Tokenizer, wanted: Asked
    ) -> None:
        self.index, self.prompt, self.stream = index, prompt, stream
        self.output_tokens, self.cached_tokens = 0, 0
        self.ended = False
        self._wanted = wanted
        self._detokenizer = Detokenizer(tokenizer, skip_special=wanted.skip_special)
        self._stops = StopStrings(wanted.stops, include=wanted.include_stop)
        own = frozenset() if prompt.sampling.ignore_eos else frozenset(tokenizer.stops)
        self._own_stops, self._stop_ids = own, own | frozenset(prompt.sampling.stop_ids)
        self._stopped_by: int | None = None

    def take(self, piece: Piece) -> Delta:
        """What this piece adds.

        Raises:
            ApiError: the stream ended otherwise than finished.
        """
        self.cached_tokens = max(self.cached_tokens, piece.cached_tokens)
        if piece.outcome:
            return self._end(piece)
        ids = shown = piece.ids
        self.output_tokens += len(ids)
        self._stopped_by = ids[-1] if ids and ids[-1] in self._stop_ids else None
        if self._stopped_by is not None and not self._wanted.include_stop:
            shown = ids[:-1]
        text = self._detokenizer.push(shown)
        if self.output_tokens > self.prompt.sampling.min_tokens:
            text = self._stops.push(text)
            if self._stops.hit is not None:
                return self._hit(text, self._stops.hit, ids, piece.logprobs)
        return Delta(text, ids, piece.logprobs)

    def _end(self, piece: Piece) -> Delta:
        self.ended = True
        if piece.outcome != FINISHED_OK:
            raise ended_early(piece.outcome)
        text = self._stops.push(self._detokenizer.finish())
        if self._stops.hit is not None:
            return self._hit(text, self._stops.hit, (), ())
        text += self._stops.finish()
        if self._stopped_by is None and self.output_tokens >= self.prompt.max_tokens:
            return Delta(text, finish_reason="length")
        named = None if self._stopped_by in self._own_stops else self._stopped_by
        return Delta(text, finish_reason="stop", stop_reason=named)

    def _hit(
        self, text: str, stop: str, ids: Sequence[int], logprobs: Sequence[TokenLogprob]
    ) -> Delta:
        self.ended = True
        self.stream.complete = True
        self.stream.abort()
        return Delta(text, ids, logprobs, "stop", stop)
