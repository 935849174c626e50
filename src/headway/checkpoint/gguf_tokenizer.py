"""The tokenizer of a GGUF file, whichever kind it has."""

from __future__ import annotations

from headway.checkpoint.bytelevel_gguf import bytelevel_from_gguf
from headway.checkpoint.gguf_file import GgufFile
from headway.checkpoint.sentencepiece_tokenizer import SentencePieceTokenizer
from headway.checkpoint.tokenizer import Tokenizer
from headway.errors import ModelFileError


def tokenizer_from_gguf(file: GgufFile) -> Tokenizer:
    """Read it.

    Raises:
        ModelFileError: none in the file, of another kind, or damaged.
        UnknownNameError: a byte-level one that cuts words in an unknown way.
    """
    kind = file.text("tokenizer.ggml.model")
    if kind == "llama":
        return SentencePieceTokenizer.from_gguf(file)
    if kind == "gpt2":
        return bytelevel_from_gguf(file)
    raise ModelFileError(
        f"{file.name} has a tokenizer of kind {kind or 'none'!r}, only 'llama' and 'gpt2' are built:"
        " give the model's Hugging Face directory"
    )
