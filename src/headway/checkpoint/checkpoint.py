"""All that the serving process needs of a model, without its weights and without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headway.checkpoint.chat_template import (
    PLAIN,
    ChatTemplate,
    TemplateSource,
    special_from_gguf,
    template_from_directory,
    template_from_file,
    template_from_gguf,
)
from headway.checkpoint.directory_tokenizer import tokenizer_from_directory
from headway.checkpoint.gguf_file import GgufFile
from headway.checkpoint.gguf_tokenizer import tokenizer_from_gguf
from headway.checkpoint.located import Licence, Located
from headway.checkpoint.model_facts import ModelFacts, facts_from_directory, facts_from_gguf
from headway.checkpoint.prompt_ids import PromptIds
from headway.checkpoint.synthetic_tokenizer import SyntheticTokenizer
from headway.checkpoint.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model as the HTTP side knows it; `facts` are missing only in simulated worlds without a model.

    Owns the template's process: `close` it.
    """

    name: str
    tokenizer: Tokenizer
    template: ChatTemplate
    prompts: PromptIds
    facts: ModelFacts | None = None
    licence: Licence | None = None

    @property
    def vocabulary(self) -> int:
        """Rows of the model's embedding: ids below it may come out; some may have no text."""
        return self.facts.vocabulary if self.facts else self.tokenizer.size

    def close(self) -> None:
        """End what it started."""
        self.template.close()


def open_checkpoint(model: Located, *, chat_template: Path | None = None) -> Checkpoint:
    """Read tokenizer, template and facts; `chat_template` replaces the model's own.

    Raises:
        ModelFileError: a file is missing, damaged or of a kind not built.
        UnknownNameError: a tokenizer that cuts words in an unknown way.
    """
    tokenizer: Tokenizer
    if model.is_gguf:
        file = GgufFile(model.paths)
        facts, tokenizer = facts_from_gguf(file), tokenizer_from_gguf(file)
        source = template_from_gguf(file)
        special = special_from_gguf(file)
    else:
        folder = model.paths[0]
        facts, tokenizer = facts_from_directory(folder), tokenizer_from_directory(folder)
        source = template_from_directory(folder)
        special = dict(source.special)
    if chat_template:
        source = template_from_file(chat_template, special)
    return _assembled(model.name, tokenizer, source, facts, model.licence)


def vocabulary_of(model: Located) -> tuple[ModelFacts, Tokenizer]:
    """Read sizes and tokenizer, of a model that nobody talks to.

    Raises:
        ModelFileError: a file is missing, damaged or of a kind not built.
        UnknownNameError: a tokenizer that cuts words in an unknown way.
    """
    if model.is_gguf:
        file = GgufFile(model.paths)
        return facts_from_gguf(file), tokenizer_from_gguf(file)
    folder = model.paths[0]
    return facts_from_directory(folder), tokenizer_from_directory(folder)


def synthetic_checkpoint(name: str) -> Checkpoint:
    """Stand in for a model in a simulated world: made-up tokens, the plain template, no files."""
    tokenizer = SyntheticTokenizer()
    return _assembled(name, tokenizer, TemplateSource(PLAIN, "plain", plain=True), None, None)


def _assembled(
    name: str,
    tokenizer: Tokenizer,
    source: TemplateSource,
    facts: ModelFacts | None,
    licence: Licence | None,
) -> Checkpoint:
    template = ChatTemplate(source)
    return Checkpoint(name, tokenizer, template, PromptIds(tokenizer, template), facts, licence)
