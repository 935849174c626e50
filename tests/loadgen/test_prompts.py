import json

import pytest
from hypothesis import given, strategies as st

from headway.core import Request
from headway.errors import OptionError
from headway.loadgen.endpoint import Endpoint, kind_of, root_of
from headway.loadgen.prompts import DEFAULT_IDS, Prompts, WordRate, ids_within

COMPLETIONS = Endpoint("http://x", "m", extra={"ignore_eos": True})
CHAT = Endpoint("http://x", "m", kind="chat")
extents = st.lists(st.tuples(st.integers(0, 2**64), st.integers(1, 40)), max_size=5)


def ids_of(prompts: Prompts, request: Request) -> list[int]:
    found: list[int] = json.loads(prompts.body(request, 3))["prompt"]
    return found


@given(prefix=extents, tokens=st.integers(1, 200), number=st.integers(0, 10**6))
def test_a_prompt_has_the_wanted_tokens_of_the_range(
    prefix: list[tuple[int, int]], tokens: int, number: int
) -> None:
    ids = ids_of(Prompts(COMPLETIONS), Request(number, 0, tokens, 9, prefix=tuple(prefix)))
    assert len(ids) == tokens
    assert all(DEFAULT_IDS[0] <= one <= DEFAULT_IDS[1] for one in ids)


@given(shared=extents, salt=st.integers(-(2**70), 2**70))
def test_equal_hashes_give_equal_tokens_and_nothing_else_is_shared(
    shared: list[tuple[int, int]], salt: int
) -> None:
    covered = sum(tokens for _, tokens in shared)
    asked = [Request(number, 0, covered + 8, 9, prefix=tuple(shared)) for number in (1, 2)]
    first, second = (ids_of(Prompts(COMPLETIONS, salt=salt), request) for request in asked)
    assert first[:covered] == second[:covered]
    assert first[covered:] != second[covered:]
    other = ids_of(Prompts(COMPLETIONS, salt=salt + 1), asked[0])
    assert other[-8:] != first[-8:]


def test_a_body_asks_for_a_stream_with_usage() -> None:
    body = json.loads(Prompts(COMPLETIONS).body(Request(1, 0, 3, 9), 7))
    assert body["max_tokens"] == 7
    assert body["stream"] is body["ignore_eos"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert (body["model"], body["temperature"]) == ("m", 0)


@given(tokens=st.integers(1, 3000), each=st.floats(0.5, 3), overhead=st.floats(0, 40))
def test_words_are_as_many_as_their_tokens_ask(tokens: int, each: float, overhead: float) -> None:
    prompts = Prompts(CHAT, words=WordRate(each, overhead))
    content = json.loads(prompts.body(Request(1, 0, tokens, 9), 1))["messages"][0]["content"]
    achieved = len(content.split()) * each + overhead
    assert abs(achieved - tokens) <= max(each + 0.5, overhead + each)


def test_ids_for_small_and_unknown_vocabularies() -> None:
    assert ids_within(0) == ids_within(262_144) == DEFAULT_IDS
    assert ids_within(300) == (150, 299)
    with pytest.raises(OptionError, match="rising range"):
        Prompts(COMPLETIONS, ids=(5, 5))
    with pytest.raises(OptionError, match="words"):
        Prompts(CHAT)


@pytest.mark.parametrize(
    ("given_url", "root"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("http://a:1/", "http://a:1"),
        ("https://a/v1", "https://a"),
        ("http://a/v1/chat/completions", "http://a"),
        ("http://a/gateway/v1/", "http://a/gateway"),
    ],
)
def test_addresses_as_people_give_them(given_url: str, root: str) -> None:
    assert root_of(given_url) == root


def test_endpoints_as_people_name_them() -> None:
    assert kind_of("chat") == ("chat", "")
    assert kind_of("/x/v1/chat/completions") == ("chat", "/x/v1/chat/completions")
    assert kind_of("/v1/completions") == ("completions", "/v1/completions")
    for wrong in ("embeddings", "/v1/embeddings"):
        with pytest.raises(OptionError, match=wrong):
            kind_of(wrong)
    with pytest.raises(OptionError, match="ftp"):
        root_of("ftp://a")
