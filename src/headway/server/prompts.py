"""From what a client wrote to token ids, with every length checked before the work it bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from headway.checkpoint.prompt_ids import PromptIds
from headway.checkpoint.tokenizer import Tokenizer
from headway.errors import HeadwayError
from headway.server.bodies import Message, Part
from headway.server.errors import invalid, too_long
from headway.server.settings import Settings
from headway.server.stream import ServedModel
from headway.server.validation import check_tokens

Unread = str | list[int]  # a prompt as the client wrote it
_ROLES = {"system", "developer", "user", "assistant", "tool"}


@dataclass(frozen=True, slots=True)
class PromptReader:
    """Checks, renders and tokenises prompts for one model."""

    tokenizer: Tokenizer
    chats: PromptIds | None
    model: ServedModel
    settings: Settings
    longest_token_bytes: int

    def split(self, prompt: str | list[str | int | list[int]] | None) -> list[Unread]:
        """One entry per prompt of /v1/completions: a text, texts, ids, or lists of ids.

        Raises:
            ApiError: 400 for nothing, a mixture, too many, ids outside the vocabulary, or a prompt that cannot fit.
        """
        if prompt is None or prompt in ("", []):
            raise invalid("prompt", "The prompt is empty: give a text or token ids.")
        prompts = self._prompts(prompt)
        if len(prompts) > self.settings.most_choices:
            raise invalid(
                "prompt", f"{len(prompts)} prompts; at most {self.settings.most_choices} in a call."
            )
        for one in prompts:
            self._fits(one)
        return prompts

    def conversation(self, messages: list[Message] | None) -> list[dict[str, Any]]:
        """The messages as templates want them: role and plain text.

        Raises:
            ApiError: 400 for no messages, too many, unknown roles, or content that is not text.
        """
        if not messages:
            raise invalid("messages", "The conversation has no messages: give at least one.")
        most = self.settings.most_messages
        if len(messages) > most:
            raise invalid("messages", f"{len(messages)} messages; at most {most}.")
        plain = [_plain(number, message) for number, message in enumerate(messages)]
        self._short_enough(sum(len(message["content"].encode()) for message in plain))
        return plain

    async def read(self, prompt: Unread, *, special: bool = True) -> list[int]:
        """The ids of a prompt that `split` let through.

        Raises:
            ApiError: 400 when it is empty or too long.
        """
        if isinstance(prompt, list):
            return prompt
        encode = self.tokenizer.encode
        # The client wrote the whole prompt, so markers in it are its own.
        return await self._ids(
            "prompt",
            lambda: encode(prompt, add_special=special, parse_special=True),
            inline=len(prompt) <= self.settings.inline_chars,
        )

    async def read_conversation(
        self,
        messages: list[dict[str, Any]],
        *,
        add_generation_prompt: bool,
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """The ids of a conversation; `variables` are the client's switches for the template.

        Raises:
            ApiError: 400 when the template refuses it, there is no template, or it is too long.
        """
        chats = self.chats
        if chats is None:
            raise invalid(
                "messages", "This model has no chat template: use /v1/completions instead."
            )
        return await self._ids(
            "messages",
            lambda: chats.of_chat(
                messages, add_generation_prompt=add_generation_prompt, variables=variables
            ),
            inline=False,  # a template runs in a process of its own
        )

    async def _ids(self, param: str, work: Callable[[], list[int]], *, inline: bool) -> list[int]:
        try:
            ids = work() if inline else await asyncio.to_thread(work)
        except (HeadwayError, ValueError) as error:
            said = str(error) if isinstance(error, HeadwayError) else "it cannot be tokenised"
            raise invalid(param, f"The {param} cannot be used: {said}.") from error
        if not ids:
            raise invalid("prompt", "The prompt has no tokens: give a text or token ids.")
        self._has_room(len(ids))
        return ids

    def _prompts(self, prompt: str | list[str | int | list[int]]) -> list[Unread]:
        if isinstance(prompt, str):
            return [prompt]
        kinds = {type(item) for item in prompt}
        if kinds == {int}:
            return [[item for item in prompt if isinstance(item, int)]]
        if len(kinds) > 1:
            raise invalid("prompt", "The prompt mixes texts and token ids: give one kind.")
        return [item for item in prompt if not isinstance(item, int)]

    def _fits(self, prompt: Unread) -> None:
        if not prompt:
            raise invalid("prompt", "A prompt is empty: give a text or token ids.")
        if isinstance(prompt, str):
            self._short_enough(len(prompt.encode()))
            return
        self._has_room(len(prompt))
        check_tokens("prompt", prompt, self.model)

    def _short_enough(self, size_bytes: int) -> None:
        """Refuse what cannot fit even if every token were the longest, before it is tokenised."""
        least = size_bytes // self.longest_token_bytes
        if least >= self.model.context_tokens:
            raise too_long(f"at least {least} tokens", self.model.context_tokens)

    def _has_room(self, tokens: int) -> None:
        if tokens >= self.model.context_tokens:
            raise too_long(f"{tokens} tokens", self.model.context_tokens)


def longest_token_bytes(tokenizer: Tokenizer) -> int:
    """The longest text of one token, in UTF-8."""
    return max(1, *(len(tokenizer.token_bytes(token)) for token in range(tokenizer.size)))


def _plain(number: int, message: Message) -> dict[str, Any]:
    where = f"messages[{number}]"
    if message.role not in _ROLES:
        raise invalid("messages", f"{where} has an unknown role: use one of {sorted(_ROLES)}.")
    if message.tool_calls is not None and bytes(message.tool_calls) not in {b"null", b"[]"}:
        raise invalid("messages", f"{where} has tool calls, which are not supported here.")
    content = message.content
    if content is None:
        raise invalid("messages", f"{where} has no content.")
    if isinstance(content, list):
        content = "\n".join(_text(where, part) for part in content)
    plain: dict[str, Any] = {
        "role": "system" if message.role == "developer" else message.role,
        "content": content,
    }
    return plain | ({"name": message.name} if message.name else {})


def _text(where: str, part: Part) -> str:
    if part.type != "text" or part.text is None:
        raise invalid(
            "messages",
            f"{where} has a content part that is not text: this server reads only text.",
            "unsupported",
        )
    return part.text
