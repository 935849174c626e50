"""A tokenizer without files, for simulated worlds: made-up pieces, the same on every machine.

Every text survives a round trip, every id has a text, and English takes about one token for three letters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from itertools import product
from string import ascii_lowercase, digits

from headway.checkpoint.tokenizer import joined_bytes

SIZE = 32_000
PAD, BOS, EOS = range(3)
_NAMES = ("<pad>", "<bos>", "<eos>")
_VOWELS = "aeiou"
_LONGEST = 5
_RUNS = re.compile(r" ?[a-z]+|[0-9]+|[^a-z0-9]", re.DOTALL)


class SyntheticTokenizer:
    """A `Tokenizer` whose pieces are short runs of letters, with or without a space before them."""

    bos: int | None = BOS
    stops = frozenset({EOS})
    size = SIZE
    space_prefix = False
    special_ids = frozenset({PAD, BOS, EOS})

    def __init__(self) -> None:
        self.specials = {name: token for token, name in enumerate(_NAMES)}

    def encode(
        self, text: str, *, add_special: bool = True, parse_special: bool = False
    ) -> list[int]:
        ids: list[int] = []
        for index, part in enumerate(re.split("(<pad>|<bos>|<eos>)", text)):
            if index % 2 and parse_special:
                ids.append(self.specials[part])
            else:
                for run in _RUNS.findall(part):
                    ids += self._cut(run)
        if add_special and ids[:1] != [BOS]:
            ids.insert(0, BOS)
        return ids

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        return joined_bytes(self, ids, skip_special=skip_special).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        return self._pieces[token] if 0 <= token < SIZE else b""

    def token_text(self, token: int) -> str:
        return self.token_bytes(token).decode("utf-8", "replace")

    def _cut(self, run: str) -> list[int]:
        """Cut a run of letters or digits into the longest pieces there are, from the left."""
        ids, at = [], 0
        data = run.encode("utf-8", "replace")
        while at < len(data):
            for stop in range(min(len(data), at + _LONGEST), at, -1):
                token = self._ids.get(data[at:stop])
                if token is not None:
                    ids.append(token)
                    at = stop
                    break
        return ids

    @cached_property
    def _ids(self) -> dict[bytes, int]:
        return {piece: token for token, piece in enumerate(self._pieces) if token > EOS}

    @cached_property
    def _pieces(self) -> list[bytes]:
        pieces = [name.encode() for name in _NAMES] + [bytes((byte,)) for byte in range(256)]
        letters = ascii_lowercase
        pieces += _joined(letters, letters) + _joined(digits, digits) + _joined(*[digits] * 3)
        pieces += _joined(letters, letters, letters)
        pieces += _joined(" ", letters) + _joined(" ", letters, letters)
        pieces += [
            piece
            for piece in _joined(" ", *[letters] * 3)
            if any(v in piece.decode() for v in _VOWELS)
        ]
        rest = _joined(" ", "bdfgklmnprstvwz", _VOWELS, letters, _VOWELS)
        return pieces + rest[: SIZE - len(pieces)]


def _joined(*alphabets: str) -> list[bytes]:
    return ["".join(letters).encode() for letters in product(*alphabets)]
