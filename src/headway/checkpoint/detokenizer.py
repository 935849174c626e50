"""Ids to text while they come: what was once emitted never changes."""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from headway.checkpoint.tokenizer import Tokenizer, takes_off_space

_DECODER = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """The text of one sequence, piece by piece; all pieces together equal `Tokenizer.decode` of all ids.

    Holds back at most three bytes: the beginning of a character whose end has not come.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_ids if skip_special else frozenset()
        self._decoder = _DECODER("replace")
        self._begun = False
        self._space_due = False  # the space that `encode` had added has not passed yet

    def push(self, ids: Iterable[int]) -> str:
        """Return the text that these ids complete; often empty, never longer than they are."""
        data = bytearray()
        for token in ids:
            if not self._begun:
                self._begun = True
                self._space_due = takes_off_space(self._tokenizer, (token,))
            if token not in self._skipped:
                data += self._tokenizer.token_bytes(token)
        if self._space_due and data:
            self._space_due = False
            if data[:1] == b" ":
                del data[:1]
        return self._decoder.decode(bytes(data))

    def finish(self) -> str:
        """Return what is left: U+FFFD for a character whose end never came."""
        return self._decoder.decode(b"", final=True)
