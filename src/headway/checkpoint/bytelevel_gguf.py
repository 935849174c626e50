"""The tokenizer of GGUF files of kind `gpt2`: the byte-level BPE of Llama-3, Qwen and most others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer as Library, decoders, models, pre_tokenizers

from headway.checkpoint.fast_tokenizer import FastTokenizer
from headway.checkpoint.gguf_file import GgufFile
from headway.checkpoint.gguf_stops import stops_from_gguf
from headway.checkpoint.split_patterns import Split, split_of
from headway.checkpoint.vocabulary import CONTROL, USER_DEFINED
from headway.errors import ModelFileError


def bytelevel_from_gguf(file: GgufFile) -> FastTokenizer:
    """Build it from the file's tokens and merges.

    Raises:
        ModelFileError: the file lacks them, or they do not belong together.
        UnknownNameError: it cuts words in a way not known here.
    """
    tokens = file.metadata.get("tokenizer.ggml.tokens")
    merges = file.metadata.get("tokenizer.ggml.merges")
    kinds = file.metadata.get("tokenizer.ggml.token_type")
    if not (
        isinstance(tokens, list) and isinstance(merges, list) and isinstance(kinds, np.ndarray)
    ):
        raise ModelFileError(
            f"{file.name} has a byte-level vocabulary without tokens, merges or token types:"
            " convert the model again with a current llama.cpp"
        )
    split = split_of(file.text("tokenizer.ggml.pre", "default"))
    try:
        library = _library(tokens, merges, kinds.tolist(), split)
    except Exception as error:  # the library raises bare Exception for a merge of unknown tokens
        raise ModelFileError(
            f"{file.name} has a damaged vocabulary ({error}): download it again"
        ) from error
    said = file.metadata.get("tokenizer.ggml.bos_token_id")
    bos = int(file.number("tokenizer.ggml.bos_token_id")) if isinstance(said, int) else None
    adds_bos = bool(file.metadata.get("tokenizer.ggml.add_bos_token", split.adds_bos))
    control = {text: token for token, text in enumerate(tokens) if kinds[token] == CONTROL}
    return FastTokenizer(
        library,
        file.name,
        bos=bos,
        prefix=(bos,) if adds_bos and bos is not None else (),
        stops=stops_from_gguf(file, control),
    )


def _library(
    tokens: Sequence[str], merges: Sequence[str], kinds: Sequence[int], split: Split
) -> Library:
    vocabulary = {text: token for token, text in enumerate(tokens)}
    pairs = [_pair(merge) for merge in merges]
    library = Library(models.BPE(vocabulary, pairs, ignore_merges=split.whole_words))
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in split.patterns),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.decoder = decoders.ByteLevel()
    fixed = [(tokens[at], kind) for at, kind in enumerate(kinds) if kind in (CONTROL, USER_DEFINED)]
    library.add_special_tokens(
        [
            AddedToken(text, special=True, normalized=False)
            for text, kind in fixed
            if kind == CONTROL
        ]
    )
    library.add_tokens(
        [AddedToken(text, normalized=False) for text, kind in fixed if kind == USER_DEFINED]
    )
    return library


def _pair(merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    return left, right
