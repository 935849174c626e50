"""Text to token ids and back, straight from a GGUF vocabulary.

Gemma's, Llama-2's and Mistral's vocabulary is SentencePiece BPE: spaces are U+2581, the score of a piece says
how early it is merged, and what no piece covers falls back to byte tokens. User-defined pieces (line breaks,
runs of spaces, tags) are cut out first and never merged.

Building a fast tokenizer from 262 144 pieces takes most of a minute; this takes a fifth of a second, and words
that were met before are looked up.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from headway.checkpoint.fixed_pieces import pattern_of
from headway.checkpoint.gguf_file import GgufFile
from headway.errors import ModelFileError

SPACE = "\u2581"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # tokenizer.ggml.token_type
REMEMBERED_WORDS, LONGEST_REMEMBERED = 1 << 16, 48  # letters: what is longer hardly comes again


class Vocabulary:
    """Pieces, scores and kinds of all tokens, by id.

    With `space_prefix`, as in Llama-2, a text begins with a space of its own, after each control token anew.
    """

    def __init__(
        self,
        pieces: Sequence[str],
        scores: NDArray[np.float32],
        kinds: NDArray[np.int32],
        *,
        bos: int,
        eos: int,
        space_prefix: bool = False,
    ) -> None:
        self.pieces = pieces
        self.bos, self.eos = bos, eos
        self.space_prefix = space_prefix
        self._scores = scores.tolist()
        self._kinds = kinds.tolist()
        self._bytes = {
            int(pieces[token][3:5], 16): token for token in np.flatnonzero(kinds == BYTE).tolist()
        }
        self._byte_of = {token: byte for byte, token in self._bytes.items()}
        self._known = lru_cache(REMEMBERED_WORDS)(self._merge)

    @classmethod
    def from_gguf(cls, file: GgufFile) -> Vocabulary:
        """Read the vocabulary.

        Raises:
            ModelFileError: none in the file, or not of the SentencePiece kind.
        """
        kind = file.text("tokenizer.ggml.model")
        pieces = file.metadata.get("tokenizer.ggml.tokens")
        scores = file.metadata.get("tokenizer.ggml.scores")
        kinds = file.metadata.get("tokenizer.ggml.token_type")
        if (
            kind != "llama"
            or not isinstance(pieces, list)
            or not isinstance(scores, np.ndarray)
            or not isinstance(kinds, np.ndarray)
        ):
            raise ModelFileError(
                f"{file.name} has a vocabulary of kind {kind or 'none'!r}: Gemma-3 has kind 'llama'"
                " with tokens, scores and token types"
            )
        return cls(
            pieces,
            scores.astype(np.float32),
            kinds.astype(np.int32),
            bos=int(file.number("tokenizer.ggml.bos_token_id")),
            eos=int(file.number("tokenizer.ggml.eos_token_id")),
            space_prefix=bool(file.metadata.get("tokenizer.ggml.add_space_prefix", True)),
        )

    def __len__(self) -> int:
        return len(self.pieces)

    @cached_property
    def control(self) -> dict[str, int]:
        """Control tokens by their text: `<bos>`, `<start_of_turn>` and the like."""
        return {
            self.pieces[token]: token for token, kind in enumerate(self._kinds) if kind == CONTROL
        }

    def piece(self, token: int) -> bytes:
        """UTF-8 bytes a token adds to the text: empty for control tokens, one byte for byte tokens.

        A character may be spread over several byte tokens: join the bytes before decoding them.
        """
        if self._kinds[token] in (CONTROL, UNKNOWN):
            return b""
        if token in self._byte_of:
            return bytes((self._byte_of[token],))
        return self.pieces[token].replace(SPACE, " ").encode()

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens; incomplete characters become U+FFFD."""
        return b"".join(map(self.piece, tokens)).decode("utf-8", "replace")

    def encode(self, text: str, *, bos: bool = True, control: bool = False) -> list[int]:
        """Return the tokens of a text, BOS first: Gemma-3 talks nonsense without it.

        `control` lets the text contain control tokens: for chat templates, never for what users type.
        """
        tokens = [self.bos] if bos else []
        fixed_ids = self._fixed_ids
        fresh = self.space_prefix
        for index, part in enumerate((self._all if control else self._fixed).split(text)):
            if index % 2:
                tokens.append(fixed_ids[part])
                fresh = self.space_prefix and self._kinds[tokens[-1]] == CONTROL
            elif part:
                self._words(" " + part if fresh else part, tokens)
        return tokens

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {piece: token for token, piece in enumerate(self.pieces)}

    @cached_property
    def _fixed_ids(self) -> dict[str, int]:
        """By their text: files write the spaces in them as U+2581 or as they are."""
        return {
            self.pieces[token].replace(SPACE, " "): token
            for token, kind in enumerate(self._kinds)
            if kind in (USER_DEFINED, CONTROL)
        }

    @cached_property
    def _fixed(self) -> re.Pattern[str]:
        return pattern_of(
            text for text, token in self._fixed_ids.items() if self._kinds[token] == USER_DEFINED
        )

    @cached_property
    def _all(self) -> re.Pattern[str]:
        return pattern_of(self._fixed_ids)

    @cached_property
    def _border(self) -> re.Pattern[str]:
        """Match where a word begins and no merge can reach across, as no piece has these two letters."""
        before = {
            piece[at - 1]
            for piece, kind in zip(self.pieces, self._kinds, strict=True)
            if kind == NORMAL
            for at in range(1, len(piece))
            if piece[at] == SPACE
        }
        joined = "".join(map(re.escape, sorted(before)))
        return re.compile(f"(?<!^)(?<![{joined}])(?={SPACE})" if joined else f"(?<!^)(?={SPACE})")

    def _words(self, text: str, tokens: list[int]) -> None:
        """Append the tokens of a text without fixed pieces; words have no influence on each other."""
        for word in self._border.split(text.replace(" ", SPACE)):
            short = len(word) <= LONGEST_REMEMBERED
            tokens += self._known(word) if short else self._merge(word)

    def _merge(self, text: str) -> tuple[int, ...]:
        """Join the neighbours whose piece has the highest score, leftmost first, until none is left."""
        ids, scores = self._ids, self._scores
        symbols: list[str] = list(text)
        before = list(range(-1, len(symbols) - 1))
        after = [*range(1, len(symbols)), -1]
        heap: list[tuple[float, int, str]] = []

        def offer(left: int, right: int) -> None:
            joined = symbols[left] + symbols[right]
            token = ids.get(joined)
            if token is not None and self._kinds[token] == NORMAL:
                heapq.heappush(heap, (-scores[token], left, joined))

        for left in range(len(symbols) - 1):
            offer(left, left + 1)
        while heap:
            _, left, joined = heapq.heappop(heap)
            right = after[left]
            if right < 0 or not symbols[left] or symbols[left] + symbols[right] != joined:
                continue  # one of the two has been merged meanwhile
            symbols[left], symbols[right] = joined, ""
            after[left] = following = after[right]
            if following >= 0:
                before[following] = left
                offer(left, following)
            if before[left] >= 0:
                offer(before[left], left)
        return tuple(token for symbol in symbols if symbol for token in self._tokens(symbol))

    def _tokens(self, symbol: str) -> list[int]:
        token = self._ids.get(symbol)
        if token is not None and self._kinds[token] in (NORMAL, USER_DEFINED):
            return [token]
        return [
            self._bytes[byte] for byte in symbol.encode("utf-8", "replace") if byte in self._bytes
        ]
