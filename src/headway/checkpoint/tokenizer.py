"""What every tokenizer here can do, whichever file it came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol


class Tokenizer(Protocol):
    """Text to ids and back. Safe to use from several threads."""

    @property
    def size(self) -> int:
        """Ids are below it; a model may have more rows than that, whose text is empty."""

    @property
    def bos(self) -> int | None:
        """Begins every prompt, if the model was trained so."""

    @property
    def stops(self) -> frozenset[int]:
        """Ids that end an answer: end of text, end of turn."""

    @property
    def specials(self) -> Mapping[str, int]:
        """Control tokens by their text. Chat templates write them, users must not."""

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids of `specials`, and others that stand for no text."""

    @property
    def space_prefix(self) -> bool:
        """`encode` puts a space before the text, as Llama-2's does; `decode` takes it off after BOS."""

    def encode(
        self, text: str, *, add_special: bool = True, parse_special: bool = False
    ) -> list[int]:
        """Return the ids of a text.

        `add_special` puts what the model expects in front (BOS), unless it is there already. With
        `parse_special` the text may contain control tokens: for what a template wrote, never for what a
        user typed.
        """

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Return the text of ids; incomplete characters become U+FFFD, unknown ids nothing."""

    def token_bytes(self, token: int) -> bytes:
        """UTF-8 the token adds to a text, its name where it is a control token; may be part of a character."""

    def token_text(self, token: int) -> str:
        """`token_bytes` for people: parts of characters become U+FFFD."""


def joined_bytes(tokenizer: Tokenizer, ids: Iterable[int], *, skip_special: bool) -> bytes:
    """Join what the ids add to the text."""
    listed = list(ids)
    skipped = tokenizer.special_ids if skip_special else frozenset()
    joined = b"".join(tokenizer.token_bytes(token) for token in listed if token not in skipped)
    return joined[1:] if takes_off_space(tokenizer, listed) and joined[:1] == b" " else joined


def takes_off_space(tokenizer: Tokenizer, ids: Sequence[int]) -> bool:
    """Say whether a text begins at the first of these ids with the space that `encode` had added."""
    return tokenizer.space_prefix and bool(ids) and ids[0] == tokenizer.bos
