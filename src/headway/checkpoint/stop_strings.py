"""Texts that end an answer, found across the borders of tokens."""

from __future__ import annotations

from collections.abc import Sequence

from headway.errors import OptionError


class StopStrings:
    """Passes a text through until the first stop string, and holds back what may become one.

    The first is the one whose last character comes first; of those that end together, the longest. So the
    result does not depend on how the text was cut, and without `include` it never contains a stop string.
    Cost: O(characters x stops), whatever their lengths (Knuth, Morris and Pratt 1977, one table per stop).

    Raises:
        OptionError: a stop string is empty.
    """

    def __init__(self, stops: Sequence[str], *, include: bool = False) -> None:
        if "" in stops:
            raise OptionError("a stop string is empty: every text contains it; leave it out")
        self._stops = sorted(set(stops), key=len, reverse=True)
        self._borders = [_borders(stop) for stop in self._stops]
        self._matched = [0] * len(self._stops)  # of each stop, characters that the text ends with
        self._include = include
        self._held = ""
        self.hit: str | None = None

    def push(self, text: str) -> str:
        """Return what of the text so far may be shown and has not been; empty after a hit."""
        if self.hit is not None:
            return ""
        if not self._stops:
            return text
        matched = self._matched
        for at, letter in enumerate(text):
            for index, (stop, borders) in enumerate(zip(self._stops, self._borders, strict=True)):
                length = matched[index]
                while length and stop[length] != letter:
                    length = borders[length - 1]
                if stop[length] == letter:
                    length += 1
                matched[index] = length
                if length == len(stop):  # the longest comes first
                    self.hit = stop
                    whole = self._held + text[: at + 1]
                    self._held = ""
                    return whole if self._include else whole[: len(whole) - len(stop)]
        whole = self._held + text
        keep = len(whole) - max(matched)
        self._held = whole[keep:]
        return whole[:keep]

    def finish(self) -> str:
        """Return what was held back: it became no stop string."""
        held, self._held = self._held, ""
        return held


def _borders(stop: str) -> list[int]:
    """Of each beginning of `stop`, how long the longest shorter beginning is that it ends with."""
    borders, length = [0], 0
    for letter in stop[1:]:
        while length and stop[length] != letter:
            length = borders[length - 1]
        if stop[length] == letter:
            length += 1
        borders.append(length)
    return borders
