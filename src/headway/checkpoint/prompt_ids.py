"""A conversation to ids, such that what a user typed never counts as a control token.

A template writes control tokens and user text into one string. So the control tokens that users typed are
broken by a marker first, the string is cut at those that are whole, and the marker is taken out again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from headway.checkpoint.chat_template import ChatTemplate, Message
from headway.checkpoint.fixed_pieces import pattern_of
from headway.checkpoint.tokenizer import Tokenizer
from headway.errors import OptionError

_MARKERS = [chr(code) for code in range(0xFDD0, 0xFDF0)]  # Unicode promises never to use them


class PromptIds:
    """Turns conversations into prompts, for one tokenizer and one template."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        self._tokenizer, self._template = tokenizer, template
        self._special = pattern_of(tokenizer.specials)

    def of_chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Return the ids, BOS once if the model wants it. Blocks: call it in a thread.

        Contents that are lists of text parts are joined, one part a line.

        Raises:
            OptionError: the template refuses the conversation.
            ModelFileError: the template fails, or takes too much time, memory or room.
        """
        flat = [_flattened(message) for message in messages]
        given: list[Any] = [flat, list(tools) if tools else None, dict(variables or {})]
        marker = ""
        if any(map(self._contains_special, given)):
            marker = _unused_marker(given)
            given = [_broken(part, self._special, marker) for part in given]
        text = self._template.render(
            given[0],
            tools=given[1],
            add_generation_prompt=add_generation_prompt,
            variables=given[2],
        )
        if not marker:
            return self._tokenizer.encode(text, parse_special=True)
        return self._around(text, marker)

    def _around(self, text: str, marker: str) -> list[int]:
        """Encode the parts between whole control tokens one by one, the marker taken out."""
        parts = self._special.split(text)
        ids: list[int] = []
        for index, part in enumerate(parts):
            if index % 2:
                ids.append(self._tokenizer.specials[part])
            elif part:
                ids += self._tokenizer.encode(part.replace(marker, ""), add_special=False)
        prefix = self._tokenizer.encode("")
        return ids if ids[: len(prefix)] == prefix else [*prefix, *ids]

    def _contains_special(self, value: Any) -> bool:
        return any(self._special.search(text) for text in _texts(value))


def _flattened(message: Message) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("text"), str) for part in content
    ):
        return {**message, "content": "\n".join(part["text"] for part in content)}
    return dict(message)


def _texts(value: Any) -> list[str]:
    """All strings in a JSON value, keys too."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for pair in value.items() for part in pair for text in _texts(part)]
    if isinstance(value, list | tuple):
        return [text for part in value for text in _texts(part)]
    return []


def _unused_marker(value: Any) -> str:
    texts = _texts(value)
    for marker in _MARKERS:
        if not any(marker in text for text in texts):
            return marker
    raise OptionError("the messages contain all 32 noncharacters of U+FDD0 to U+FDEF: take one out")


def _broken(value: Any, special: re.Pattern[str], marker: str) -> Any:
    """Put the marker after the first character of every control token."""
    if isinstance(value, str):
        return special.sub(lambda found: found[0][0] + marker + found[0][1:], value)
    if isinstance(value, Mapping):
        return {
            _broken(key, special, marker): _broken(part, special, marker)
            for key, part in value.items()
        }
    if isinstance(value, list | tuple):
        return [_broken(part, special, marker) for part in value]
    return value
