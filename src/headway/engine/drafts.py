"""Guess the next tokens from the text itself: no draft model, no cost to speak of.

Source: Saxena, "Prompt Lookup Decoding", 2023. Differs: an index of the last place of every n-gram replaces
the search, and where nothing matches the last token is repeated, so that a draft has the length asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST = 3  # tokens of context that must match; shorter ones are tried after longer ones


class PromptLookup:
    """Proposes continuations of one growing token list."""

    def __init__(self) -> None:
        self._follows: dict[
            tuple[int, ...], int
        ] = {}  # n-gram -> where it was last followed by something
        self._indexed = 1

    def propose(self, tokens: Sequence[int], count: int) -> list[int]:
        """Return `count` guesses of what follows `tokens`, which may only have grown since the last call."""
        for end in range(
            self._indexed, len(tokens)
        ):  # tokens[end] is known: n-grams before it have a successor
            for size in range(1, min(LONGEST, end) + 1):
                self._follows[tuple(tokens[end - size : end])] = end
        self._indexed = max(self._indexed, len(tokens))
        guesses: list[int] = []
        for size in range(min(LONGEST, len(tokens)), 0, -1):
            at = self._follows.get(tuple(tokens[-size:]))
            if at is not None:
                guesses = list(tokens[at : at + count])
                break
        return guesses + [tokens[-1]] * (count - len(guesses))
