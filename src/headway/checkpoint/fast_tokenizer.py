"""A tokenizer of the `tokenizers` library, as Hugging Face directories and byte-level GGUF files bring it.

What each token adds to a text is worked out here, token by token, as streaming needs it: the library's
decoder looks at whole texts.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import Tokenizer as Library

from headway.checkpoint.tokenizer import joined_bytes
from headway.errors import ModelFileError

SPACE = "\u2581"


def _letters() -> dict[str, int]:
    """Byte-level BPE writes every byte as one printable letter: GPT-2's table, letter to byte."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + index): byte for index, byte in enumerate(others)
    }


LETTERS = _letters()


class FastTokenizer:
    """A `Tokenizer` over the library's. `prefix` are the ids that `add_special` puts in front.

    Raises:
        ModelFileError: its decoder is neither byte-level nor SentencePiece-like.
    """

    def __init__(
        self,
        library: Library,
        name: str,
        *,
        bos: int | None,
        prefix: Sequence[int],
        stops: frozenset[int],
    ) -> None:
        self._library = library
        self._lock = threading.Lock()  # `encode_special_tokens` is a switch of the whole object
        self._prefix = list(prefix)
        self.bos, self.stops = bos, stops
        decoder = json.loads(library.decoder.__getstate__()) if library.decoder else {}
        kinds = {part.get("type") for part in decoder.get("decoders", [decoder])}
        self._byte_level = "ByteLevel" in kinds
        if not kinds & {"ByteLevel", "ByteFallback", "Metaspace", "Replace"}:
            raise ModelFileError(
                f"{name} has a decoder of {', '.join(map(str, sorted(kinds, key=str)))}: only byte-level"
                " and SentencePiece tokenizers can be streamed here"
            )
        self.space_prefix = _strips(decoder)
        self._added = library.get_added_tokens_decoder()
        self.specials = {
            added.content: token for token, added in self._added.items() if added.special
        }
        self.special_ids = frozenset(self.specials.values())
        self.size = library.get_vocab_size(with_added_tokens=True)
        if self._added:
            self.size = max(self.size, max(self._added) + 1)
        self._bytes: dict[int, bytes] = {}

    def encode(
        self, text: str, *, add_special: bool = True, parse_special: bool = False
    ) -> list[int]:
        clean = text.encode("utf-8", "replace").decode()  # the library refuses lone surrogates
        with self._lock:
            self._library.encode_special_tokens = not parse_special
            ids = self._library.encode(clean, add_special_tokens=False).ids
        if add_special and self._prefix and ids[: len(self._prefix)] != self._prefix:
            return [*self._prefix, *ids]
        return list(ids)

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        return joined_bytes(self, ids, skip_special=skip_special).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        known = self._bytes.get(token)
        if known is None:
            known = self._bytes[token] = self._work_out(token)
        return known

    def token_text(self, token: int) -> str:
        return self.token_bytes(token).decode("utf-8", "replace")

    def _work_out(self, token: int) -> bytes:
        if token in self._added:
            return self._added[token].content.encode()
        text = self._library.id_to_token(token) if 0 <= token < self.size else None
        if text is None:
            return b""
        if self._byte_level:
            if all(letter in LETTERS for letter in text):
                return bytes(LETTERS[letter] for letter in text)
            return text.encode()
        if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            return bytes((int(text[3:5], 16),))
        return text.replace(SPACE, " ").encode()


def _strips(decoder: dict[str, Any]) -> bool:
    """Say whether a decoder takes off one space at the beginning."""
    return any(
        (part.get("type") == "Strip" and part.get("content") == " " and part.get("start", 0) > 0)
        or (part.get("type") == "Metaspace" and part.get("prepend_scheme") != "never")
        for part in decoder.get("decoders", [decoder])
    )
