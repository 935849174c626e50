"""The tokenizer of GGUF files of kind `llama`: Gemma, Llama-2, Mistral."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from headway.checkpoint.gguf_file import GgufFile
from headway.checkpoint.gguf_stops import stops_from_gguf
from headway.checkpoint.tokenizer import joined_bytes
from headway.checkpoint.vocabulary import Vocabulary


class SentencePieceTokenizer:
    """A `Tokenizer` over a `Vocabulary`."""

    def __init__(self, vocabulary: Vocabulary, *, add_bos: bool, stops: frozenset[int]) -> None:
        self._vocabulary = vocabulary
        self._add_bos = add_bos
        self.bos: int | None = vocabulary.bos
        self.stops = stops
        self.specials = vocabulary.control

    @classmethod
    def from_gguf(cls, file: GgufFile) -> SentencePieceTokenizer:
        """Read it.

        Raises:
            ModelFileError: the file has no such vocabulary.
        """
        vocabulary = Vocabulary.from_gguf(file)
        return cls(
            vocabulary,
            add_bos=bool(file.metadata.get("tokenizer.ggml.add_bos_token", True)),
            stops=stops_from_gguf(file, vocabulary.control),
        )

    @property
    def size(self) -> int:
        return len(self._vocabulary)

    @property
    def space_prefix(self) -> bool:
        return self._vocabulary.space_prefix

    @cached_property
    def special_ids(self) -> frozenset[int]:
        return frozenset(token for token in range(self.size) if not self._vocabulary.piece(token))

    def encode(
        self, text: str, *, add_special: bool = True, parse_special: bool = False
    ) -> list[int]:
        ids = self._vocabulary.encode(text, bos=False, control=parse_special)
        if add_special and self._add_bos and self.bos is not None and ids[:1] != [self.bos]:
            ids.insert(0, self.bos)
        return ids

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        return joined_bytes(self, ids, skip_special=skip_special).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        if not 0 <= token < self.size:
            return b""
        return self._vocabulary.piece(token) or self._vocabulary.pieces[token].encode()

    def token_text(self, token: int) -> str:
        return self.token_bytes(token).decode("utf-8", "replace")
