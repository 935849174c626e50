"""How byte-level vocabularies cut a text into words before merging, by the name GGUF files give it.

A GGUF file holds only the name (`tokenizer.ggml.pre`). The expressions are those of the models' published
tokenizers; a wrong one gives slightly other tokens and a slightly worse model, so unknown names are refused.
"""

from __future__ import annotations

from typing import NamedTuple

from headway.errors import UnknownNameError

_REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_ENGLISH = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_AHEAD = r"[^\r\n\p{L}\p{N}]?"


class Split(NamedTuple):
    """Patterns applied one after the other, each to the pieces of the one before."""

    patterns: tuple[str, ...]
    whole_words: bool = False  # a word that is a token needs no merges
    adds_bos: bool = False  # unless the file says otherwise


def _words(digits: str) -> str:
    return rf"{_ENGLISH}|{_AHEAD}\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_REST}"


def _cased(digits: str, contractions: str) -> str:
    return (
        rf"{_AHEAD}{_UPPER}*{_LOWER}+{contractions}|{_AHEAD}{_UPPER}+{_LOWER}*{contractions}"
        rf"|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_REST}"
    )


_LLAMA3 = Split((_words(r"\p{N}{1,3}"),), whole_words=True, adds_bos=True)
_QWEN2 = Split((_words(r"\p{N}"),))
_DIGITS = Split((r"\p{N}", _GPT2))
_SPLITS = {
    "default": Split(
        (r"[\p{P}\$\+<=>\^~\|]+", _GPT2.removesuffix(r"|\s+"), r"\p{N}+", r"[0-9][0-9][0-9]")
    ),
    "gpt-2": Split((_GPT2,)),
    "olmo": Split((_GPT2,)),
    "phi-2": Split((_GPT2,)),
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "stablelm2": _QWEN2,
    "qwen35": Split(
        (
            rf"{_ENGLISH}|{_AHEAD}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_REST}",
        )
    ),
    "glm4": Split((_words(r"\p{N}{1,3}"),)),
    "chatglm-bpe": Split((_words(r"\p{N}{1,3}"),)),
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
    "refact": _DIGITS,
    "command-r": _DIGITS,
    "exaone": _DIGITS,
    "tekken": Split((_cased(r"\p{N}", ""),), whole_words=True, adds_bos=True),
    "gpt-4o": Split((_cased(r"\p{N}{1,3}", rf"{_ENGLISH}?"),)),
    "llama4": Split((_cased(r"\p{N}{1,3}", rf"{_ENGLISH}?"),)),
}


def split_of(name: str) -> Split:
    """Look it up.

    Raises:
        UnknownNameError: no such name; the message lists the nearest ones.
    """
    try:
        return _SPLITS[name]
    except KeyError:
        raise UnknownNameError.among("tokenizer.ggml.pre", name, _SPLITS) from None
