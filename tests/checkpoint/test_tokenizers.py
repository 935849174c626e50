from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest
from hypothesis import given, settings, strategies as st
from tests.checkpoint.conftest import (
    CORPUS,
    SPECIAL,
    USER_DEFINED,
    bytelevel,
    save_directory,
    save_gguf,
)
from tokenizers import Tokenizer as Library, decoders, models, normalizers
from transformers import AutoTokenizer

from headway.checkpoint.directory_tokenizer import tokenizer_from_directory
from headway.checkpoint.gguf_file import GgufFile
from headway.checkpoint.gguf_tokenizer import tokenizer_from_gguf
from headway.checkpoint.sentencepiece_tokenizer import SentencePieceTokenizer
from headway.checkpoint.synthetic_tokenizer import SyntheticTokenizer
from headway.checkpoint.tokenizer import Tokenizer
from headway.errors import ModelFileError, UnknownNameError

TEXTS = [
    *CORPUS[:3],
    "",
    " ",
    "a  b\n\n c\r\n",
    "I'LL 1234567 don't",
    f"x{USER_DEFINED}y",
    "\x00\ufeff",
]


@pytest.mark.parametrize(
    "pre", ["llama-bpe", "qwen2", "gpt-2", "tekken", "smollm", "default", "gpt-4o"]
)
def test_a_gguf_file_says_the_same_as_the_tokenizer_it_was_made_of(
    tmp_path: Path, pre: str
) -> None:
    library = bytelevel(pre)
    ours = tokenizer_from_gguf(GgufFile(save_gguf(tmp_path / "m.gguf", library, pre)))
    for text in TEXTS:
        ids = library.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, add_special=False) == ids
        assert ours.decode(ids) == library.decode(ids) == text
    assert ours.stops == {library.token_to_id(SPECIAL[1]), library.token_to_id(SPECIAL[2])}


@pytest.mark.parametrize("post", [False, True])
@pytest.mark.parametrize("said", [None, False, True])
@pytest.mark.parametrize("text", ["Hello", "", f"{SPECIAL[0]}Hello"])
def test_bos_is_there_once_if_the_files_ask_for_it(
    tmp_path: Path, llama: Library, post: bool, said: bool | None, text: str
) -> None:
    extra = {} if said is None else {"add_bos_token": said}
    ours = tokenizer_from_directory(save_directory(tmp_path, llama, post=post, **extra))
    assert ours.bos is not None
    wanted = post if said is None else said
    typed = text.startswith(SPECIAL[0])
    for parse in (False, True):
        ids = ours.encode(text, parse_special=parse)
        assert ids.count(ours.bos) == (wanted or (parse and typed))
        assert ids.index(ours.bos) == 0 if ours.bos in ids else not wanted


@pytest.mark.parametrize("post", [False, True])
def test_a_directory_says_the_same_as_transformers(
    tmp_path: Path, llama: Library, post: bool
) -> None:
    folder = save_directory(tmp_path, llama, post=post)
    ours, reference = tokenizer_from_directory(folder), AutoTokenizer.from_pretrained(folder)
    for text in [*TEXTS, f"{SPECIAL[3]}user{SPECIAL[2]}"]:
        ids = reference(text).input_ids
        assert ours.encode(text, parse_special=True) == ids
        assert ours.decode(ids) == reference.decode(ids, skip_special_tokens=True)
        assert ours.decode(ids, skip_special=False) == reference.decode(ids)
    assert ours.size == len(reference)


def test_stops_come_from_every_file_that_names_them(tmp_path: Path, llama: Library) -> None:
    folder = save_directory(tmp_path, llama, post=True)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 8]}))
    (folder / "config.json").write_text(json.dumps({"eos_token_id": 9}))
    ours = tokenizer_from_directory(folder)
    assert ours.stops == {7, 8, 9, llama.token_to_id(SPECIAL[1])}


def everyone(tmp: Path, llama: Library, gemma: Tokenizer) -> list[Tokenizer]:
    return [
        gemma,
        SyntheticTokenizer(),
        tokenizer_from_directory(save_directory(tmp, llama, post=True)),
        tokenizer_from_gguf(GgufFile(save_gguf(tmp / "m.gguf", llama, "llama-bpe"))),
    ]


@pytest.fixture(scope="module")
def tokenizers(
    tmp_path_factory: pytest.TempPathFactory, llama: Library, gemma: Tokenizer
) -> list[Tokenizer]:
    return everyone(tmp_path_factory.mktemp("all"), llama, gemma)


@settings(max_examples=60)
@given(st.text(max_size=60), st.data())
def test_any_text_survives_and_no_text_becomes_a_control_token(
    tokenizers: list[Tokenizer], text: str, data: st.DataObject
) -> None:
    for tokenizer in tokenizers:
        name = data.draw(st.sampled_from(sorted(tokenizer.specials)))
        typed = (text + name + text).replace("\u2581", "")
        ids = tokenizer.encode(typed, add_special=False)
        assert not tokenizer.special_ids & set(ids)
        assert tokenizer.decode(ids) == typed
        assert tokenizer.specials[name] in tokenizer.encode(name, parse_special=True)


def test_unknown_ids_and_lone_surrogates_do_no_harm(tokenizers: list[Tokenizer]) -> None:
    for tokenizer in tokenizers:
        assert tokenizer.decode([tokenizer.size, 10**9, -1]) == ""
        assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a?b"
        assert tokenizer.token_text(tokenizer.size) == ""


def test_runs_of_spaces_and_breaks_are_pieces_of_their_own(gemma: Tokenizer) -> None:
    ids = gemma.encode("a   b\n\n\nc", add_special=False)
    assert [gemma.token_text(token) for token in ids] == ["a", "   ", "b", "\n\n\n", "c"]


def llama2(path: Path) -> SentencePieceTokenizer:
    writer = gguf.GGUFWriter(path, "llama")
    kind = gguf.TokenType
    pieces = [("<unk>", kind.UNKNOWN), ("<s>", kind.CONTROL), ("</s>", kind.CONTROL)]
    pieces += [(f"<0x{byte:02X}>", kind.BYTE) for byte in range(256)]
    pieces += [(text, kind.NORMAL) for text in ["\u2581a", "ab", "\u2581ab", *"\u2581abc"]]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _ in pieces])
    writer.add_token_scores([-float(at) for at in range(len(pieces))])
    writer.add_token_types([kind for _, kind in pieces])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return SentencePieceTokenizer.from_gguf(GgufFile(path))


def llama2_reference(ours: SentencePieceTokenizer) -> Library:
    """The same vocabulary as Hugging Face writes it: ranked merges, a space put in front, byte fallback."""
    pieces = ours._vocabulary.pieces
    library = Library(
        models.BPE(
            {text: token for token, text in enumerate(pieces)},
            [("\u2581", "a"), ("a", "b"), ("\u2581a", "b")],
            unk_token="<unk>",  # noqa: S106 - no password
            byte_fallback=True,
        )
    )
    library.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    library.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    library.add_special_tokens(["<unk>", "<s>", "</s>"])
    return library


def test_llama_2_puts_a_space_in_front_and_takes_it_off_again(tmp_path: Path) -> None:
    ours = llama2(tmp_path / "m.gguf")
    reference = llama2_reference(ours)
    for text in ["ab", " ab", "a b", "cab<s>ab", "é", "ab  ab "]:
        ids = ours.encode(text, add_special=False, parse_special=True)
        assert ids == reference.encode(text, add_special_tokens=False).ids
        assert ours.decode(ours.encode(text)) == text
    answer = ours.encode("ab", add_special=False)
    assert ours.decode(answer) == " ab"  # an answer goes on after a prompt: its space counts


@pytest.mark.parametrize(
    ("extra", "error"),
    [({"pre": "no-such"}, UnknownNameError), ({"kind": "bert"}, ModelFileError)],
)
def test_what_is_not_built_is_refused_by_name(
    tmp_path: Path, llama: Library, extra: dict[str, str], error: type[Exception]
) -> None:
    path = save_gguf(tmp_path / "m.gguf", llama, extra.get("pre", "llama-bpe"))
    file = GgufFile(path)
    file.metadata["tokenizer.ggml.model"] = extra.get("kind", "gpt2")
    with pytest.raises(error, match=next(iter(extra.values()))):
        tokenizer_from_gguf(file)


def test_damaged_files_are_named(tmp_path: Path, llama: Library) -> None:
    with pytest.raises(ModelFileError, match=r"no tokenizer\.json"):
        tokenizer_from_directory(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelFileError, match="cannot be read"):
        tokenizer_from_directory(tmp_path)
    file = GgufFile(save_gguf(tmp_path / "m.gguf", llama, "llama-bpe"))
    file.metadata["tokenizer.ggml.merges"] = ["no such"]
    with pytest.raises(ModelFileError, match="damaged vocabulary"):
        tokenizer_from_gguf(file)


def test_the_synthetic_one_gives_every_id_a_text_of_its_own() -> None:
    tokenizer = SyntheticTokenizer()
    assert len({tokenizer.token_bytes(token) for token in range(tokenizer.size)}) == tokenizer.size
    text = "the quick brown fox jumps over the lazy dog " * 10
    assert len(tokenizer.encode(text)) < len(text) / 2
