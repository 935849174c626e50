"""Chat templates: how a conversation becomes the text a model was trained on.

They come with the model or from the operator, never with a request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from headway.checkpoint.directory_tokenizer import special_text
from headway.checkpoint.gguf_file import GgufFile
from headway.checkpoint.json_file import read_object
from headway.checkpoint.template_process import TemplateProcess
from headway.errors import ModelFileError, OptionError

Message = Mapping[str, Any]

# For models that were never taught a conversation.
PLAIN = (
    "{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] | trim }}\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
PLAIN_STOPS = ("\nUser:", "\nAssistant:", "\nSystem:")
_SPECIAL = (
    "bos_token",
    "eos_token",
    "unk_token",
    "pad_token",
    "sep_token",
    "cls_token",
    "mask_token",
)
_OURS = frozenset(
    {
        "messages",
        "tools",
        "documents",
        "add_generation_prompt",
        "chat_template",
        "tokenize",
        *_SPECIAL,
    }
)


@dataclass(frozen=True, slots=True)
class TemplateSource:
    """A template as found. `plain` where the model has none: it then needs `stop_strings` to end its turn."""

    text: str
    origin: str
    special: Mapping[str, str] = field(default_factory=dict)  # bos_token, eos_token, ... as text
    plain: bool = False

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Texts that end an answer, beside the tokens that do."""
        return PLAIN_STOPS if self.plain else ()


class ChatTemplate:
    """A template ready to render; owns a process, so `close` it."""

    def __init__(self, source: TemplateSource) -> None:
        self.source = source
        self._process = TemplateProcess(source.text)

    @property
    def plain(self) -> bool:
        """Whether the model brings no template of its own."""
        return self.source.plain

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Texts that end an answer, beside the tokens that do."""
        return self.source.stop_strings

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the prompt's text, control tokens in it; blocks up to a second, so call it in a thread.

        `variables` are the client's switches, such as `enable_thinking`.

        Raises:
            OptionError: the template refuses the conversation, or a variable has a name of ours.
            ModelFileError: the template fails, or takes too much time, memory or room.
        """
        extra = dict(variables or {})
        if taken := sorted(extra.keys() & _OURS):
            raise OptionError(f"a template variable may not be called {taken[0]!r}: leave it out")
        return self._process.render(
            {
                **self.source.special,
                **extra,
                "messages": messages,
                "tools": tools,
                "documents": None,
                "add_generation_prompt": add_generation_prompt,
            }
        )

    def close(self) -> None:
        """End its process."""
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def template_from_file(path: Path, special: Mapping[str, str]) -> TemplateSource:
    """Take the operator's template.

    Raises:
        ModelFileError: it cannot be read.
    """
    try:
        return TemplateSource(path.read_text(encoding="utf-8"), str(path), special)
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFileError(
            f"cannot read the chat template {path} ({error}): check --chat-template"
        ) from error


def template_from_directory(folder: Path) -> TemplateSource:
    """Take `chat_template.jinja`, or what `tokenizer_config.json` says, or the plain one.

    Raises:
        ModelFileError: a file cannot be read.
    """
    settings = read_object(folder / "tokenizer_config.json", optional=True)
    special = {name: text for name in _SPECIAL if (text := special_text(settings, name))}
    if (folder / "chat_template.jinja").is_file():
        return template_from_file(folder / "chat_template.jinja", special)
    text = _default_of(settings.get("chat_template"))
    if not text:
        legacy = read_object(folder / "chat_template.json", optional=True)
        text = _default_of(legacy.get("chat_template"))
    if text:
        return TemplateSource(text, str(folder / "tokenizer_config.json"), special)
    return TemplateSource(PLAIN, "plain", special, plain=True)


def template_from_gguf(file: GgufFile) -> TemplateSource:
    """Take the file's template, or the plain one."""
    special = special_from_gguf(file)
    text = file.text("tokenizer.chat_template")
    if text:
        return TemplateSource(text, file.name, special)
    return TemplateSource(PLAIN, "plain", special, plain=True)


def special_from_gguf(file: GgufFile) -> dict[str, str]:
    """Texts of the control tokens that templates write."""
    tokens = file.metadata.get("tokenizer.ggml.tokens")
    found = {}
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        token = file.metadata.get(f"tokenizer.ggml.{key}_token_id")
        if isinstance(tokens, list) and isinstance(token, int) and 0 <= token < len(tokens):
            found[f"{name}_token"] = tokens[token]
    return found


def _default_of(said: object) -> str:
    """Return a template written as a text, or the one called `default` of a list of named ones."""
    if isinstance(said, str):
        return said
    named = {
        str(entry.get("name")): str(entry.get("template", ""))
        for entry in (said if isinstance(said, list) else ())
        if isinstance(entry, dict)
    }
    return named.get("default") or next(iter(named.values()), "")
