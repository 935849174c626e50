"""What is answered to calls that are not in order: the right status, one shape, and never our fault."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from headway.server.settings import Settings
from headway.server.stream import Overloaded

from .conftest import CONTEXT, TOKENIZER, Parrot, Serve, Served

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
BAD_FIELDS: list[tuple[str, dict[str, Any]]] = [
    ("n", {"n": 10**9}),
    ("n", {"n": 0}),
    ("n", {"n": 65, "prompt": ["a", "b"]}),
    ("n", {"n": True}),
    ("n", {"n": 2.5}),
    ("temperature", {"temperature": -0.1}),
    ("temperature", {"temperature": 1e300}),
    ("temperature", {"temperature": "hot"}),
    ("top_p", {"top_p": 0}),
    ("top_p", {"top_p": 1.01}),
    ("min_p", {"min_p": 2}),
    ("top_k", {"top_k": -2}),
    ("repetition_penalty", {"repetition_penalty": 0}),
    ("repetition_penalty", {"repetition_penalty": 1e-320}),
    ("presence_penalty", {"presence_penalty": 2.1}),
    ("max_tokens", {"max_tokens": 0}),
    ("max_tokens", {"max_tokens": -(10**30)}),
    ("min_tokens", {"min_tokens": 17}),
    ("seed", {"seed": 2**64}),
    ("logprobs", {"logprobs": 10**6}),
    ("logprobs", {"logprobs": -1}),
    ("stop", {"stop": [""]}),
    ("stop", {"stop": ["a"] * 17}),
    ("stop", {"stop": "x" * 1025}),
    ("stop", {"stop": [1]}),
    ("stop_token_ids", {"stop_token_ids": [TOKENIZER.size]}),
    ("stop_token_ids", {"stop_token_ids": [1] * 129}),
    ("logit_bias", {"logit_bias": {"5": 101}}),
    ("logit_bias", {"logit_bias": {"-5": 1}}),
    ("logit_bias", {"logit_bias": {"5": 1, "05": 2}}),
    ("logit_bias", {"logit_bias": {"٣": 1}}),
    ("logit_bias", {"logit_bias": {str(k): 1 for k in range(1025)}}),
    ("logit_bias", {"logit_bias": {str(TOKENIZER.size): 1}}),
    ("prompt_cache_key", {"prompt_cache_key": "x" * 257}),
    ("prompt_cache_key", {"prompt_cache_key": "a\nb"}),
    ("prompt", {"prompt": None}),
    ("prompt", {"prompt": ""}),
    ("prompt", {"prompt": []}),
    ("prompt", {"prompt": [[]]}),
    ("prompt", {"prompt": ["a", 1]}),
    ("prompt", {"prompt": [1, [2]]}),
    ("prompt", {"prompt": [-1]}),
    ("prompt", {"prompt": [10**30]}),
    ("prompt", {"prompt": ["a"] * 129}),
    ("prompt", {"prompt": {"a": 1}}),
    ("best_of", {"best_of": 3}),
    ("suffix", {"suffix": "end"}),
    ("echo", {"echo": True, "logprobs": 1}),
    ("stream_options", {"stream_options": {"include_usage": True}}),
    ("response_format", {"response_format": {"type": "json_object"}}),
    ("guided_json", {"guided_json": {"type": "object"}}),
    ("prompt_logprobs", {"prompt_logprobs": 1}),
    ("slo.ttft_ms", {"slo": {"ttft_ms": 0}}),
    ("slo.deadline_ms", {"slo": {"deadline_ms": 1e300}}),
    ("user", {"user": "a\nb"}),
]
BAD_CHATS: list[tuple[str, dict[str, Any]]] = [
    ("messages", {"messages": []}),
    ("messages", {"messages": None}),
    ("messages", {"messages": [{"role": "user"}]}),
    ("messages", {"messages": [{"role": "wizard", "content": "a"}]}),
    ("messages", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
    ("messages", {"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]}),
    ("messages", {"messages": [{"role": "user", "content": "a"}] * 4097}),
    ("tools", {"tools": [{"type": "function"}]}),
    ("top_logprobs", {"top_logprobs": 2}),
    ("top_logprobs", {"logprobs": True, "top_logprobs": 21}),
    ("chat_template", {"chat_template": "{{ 1 }}"}),
    ("messages", {"chat_template_kwargs": {"messages": []}}),
    ("modalities", {"modalities": ["audio"]}),
]
DEEP = b'{"prompt": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BAD_BYTES = {
    "nothing": b"",
    "no JSON": b"hello",
    "cut short": b'{"prompt": "a"',
    "not an object": b"[1]",
    "NaN": b'{"prompt": "a", "temperature": NaN}',
    "bad UTF-8": b'{"prompt": "\xff"}',
    "bad UTF-8 where nobody looks": b'{"prompt": "a", "x": "\xff"}',
    "a raw NUL": b'{"prompt": "\x00"}',
    "half a surrogate": b'{"prompt": "\\ud800"}',
    "half a surrogate in front": b'{"prompt": "\\udc00 a"}',
    "a field twice": b'{"prompt": "a", "max_tokens": 1, "max_tokens": 2}',
    "an ignored field twice": b'{"prompt": "a", "x": 1 , "x" : 1}',
    "a field twice, spelt differently": b'{"prompt": "a", "\\u0070rompt": "b"}',
    "too deep": DEEP,
    "too many fields": json.dumps({f"f{k}": 1 for k in range(300)} | {"prompt": "a"}).encode(),
}


def refused(reply: Any, status: int = 400) -> dict[str, Any]:
    """The error of a reply, after a look at its shape."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"]
    body = reply.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] is None or isinstance(error["code"], str)
    assert error["message"].endswith(".")
    for leak in ("Traceback", "/src/", "0x", "headway."):
        assert leak not in error["message"]
    return error


@pytest.mark.parametrize(("param", "fields"), BAD_FIELDS, ids=lambda value: str(value)[:60])
def test_an_impossible_field_is_named(served: Served, param: str, fields: dict[str, Any]) -> None:
    before = len(served.gateway.prompts)
    error = refused(served.post(COMPLETIONS, {"prompt": "a", **fields}))
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert len(served.gateway.prompts) == before


@pytest.mark.parametrize(("param", "fields"), BAD_CHATS, ids=lambda value: str(value)[:60])
def test_an_impossible_chat_is_named(served: Served, param: str, fields: dict[str, Any]) -> None:
    body = {"messages": [{"role": "user", "content": "a"}], **fields}
    assert refused(served.post(CHAT, body))["param"] == param


@pytest.mark.parametrize("name", BAD_BYTES)
@pytest.mark.parametrize("path", [COMPLETIONS, CHAT, "/tokenize", "/detokenize"])
def test_a_body_that_is_no_strict_json_is_refused(served: Served, path: str, name: str) -> None:
    refused(served.post(path, BAD_BYTES[name]))


def test_a_number_beyond_all_bounds_is_named(served: Served) -> None:
    error = refused(served.post(COMPLETIONS, b'{"prompt": "a", "temperature": 1e999}'))
    assert error["param"] == "temperature"


def test_a_bias_given_twice_is_named(served: Served) -> None:
    body = b'{"prompt": "a", "logit_bias": {"5": 1, "5": 2}}'
    assert refused(served.post(COMPLETIONS, body))["param"] == "logit_bias"


@pytest.mark.parametrize(
    "text",
    [
        b' {"prompt":"a"} ',
        b'\n{ "prompt" :\t"a" , "x\\"y" : {"prompt": 1}, "z": [1, {"a": "}"}] }\r\n',
        b'{"prompt": "a", "max_tokens": null, "logit_bias": {}, "logit_bias2": {"5": 1}}',
        json.dumps({"prompt": 'a\\"{}[],:', "user": "{"}, indent=3).encode(),
    ],
)
def test_json_in_any_layout_is_read(served: Served, text: bytes) -> None:
    assert served.post(COMPLETIONS, text).status_code == 200


def test_nulls_mean_not_given(served: Served) -> None:
    optional = ("n", "stop", "stream", "seed", "logprobs", "logit_bias", "slo", "user", "echo")
    body = {"prompt": "a", **dict.fromkeys(optional), "guided_json": None}
    assert served.post(COMPLETIONS, body).status_code == 200


def test_a_prompt_that_is_too_long_hears_both_numbers(served: Served) -> None:
    for body in ({"prompt": [9] * CONTEXT}, {"prompt": " a" * CONTEXT}):
        error = refused(served.post(COMPLETIONS, body))
        assert error["code"] == "context_length_exceeded"
        numbers = {
            int(word) for word in error["message"].replace(",", "").split() if word.isdigit()
        }
        assert CONTEXT in numbers
        assert max(numbers) >= CONTEXT
    messages = [{"role": "user", "content": " a" * CONTEXT}]
    assert refused(served.post(CHAT, {"messages": messages}))["code"] == "context_length_exceeded"


def test_a_hopelessly_long_prompt_is_not_tokenised(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TOKENIZER, "encode", lambda *_, **__: pytest.fail("it was tokenised"))
    error = refused(served.post(COMPLETIONS, {"prompt": "x" * 6_000_000}))
    assert error["code"] == "context_length_exceeded"


def test_another_model_is_not_found(served: Served) -> None:
    for path in (COMPLETIONS, CHAT, "/tokenize", "/detokenize"):
        error = refused(served.post(path, {"prompt": "a", "model": "gpt\n\x1b[31m"}), 404)
        assert error["code"] == "model_not_found"
        assert "\x1b" not in error["message"]


def test_without_a_template_there_is_no_chat(serve: Serve) -> None:
    with serve(chats=None) as served:
        error = refused(served.post(CHAT, {"messages": [{"role": "user", "content": "a"}]}))
        assert "/v1/completions" in error["message"]


def test_unknown_paths_and_methods_are_refused_in_the_same_shape(served: Served) -> None:
    refused(served.get("/nowhere"), 404)
    refused(served.get("/v1/models/"), 404)
    refused(served.get("/health/"), 404)  # no redirect: it would be built from the Host header
    refused(served.get(COMPLETIONS), 405)
    refused(served.post("/health", {}), 405)


def test_a_full_server_says_so_before_it_tokenises(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TOKENIZER, "encode", lambda *_, **__: pytest.fail("it was tokenised"))
    gateway = Parrot(refusal=Overloaded("Full: 8 are waiting.", retry_after_s=7))
    with serve(gateway) as served:
        for path in (COMPLETIONS, CHAT):
            body = {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}
            reply = served.post(path, body)
            assert refused(reply, 503)["code"] == "overloaded"
            assert reply.headers["retry-after"] == "7"
        gateway.refusal = Overloaded("about to end", draining=True)
        reply = served.post(COMPLETIONS, {"prompt": "a"})
        assert refused(reply, 503)["message"] == "About to end."
        assert reply.headers["connection"] == "close"


@pytest.mark.parametrize(
    "outcome", ["shed", "failed", "returned", "aborted", "rejected: too late."]
)
def test_a_stream_that_breaks_off_ends_with_an_error_and_done(serve: Serve, outcome: str) -> None:
    status = 500 if outcome == "failed" else 503
    with serve(Parrot(fail_after=3, fail_with=outcome)) as served:
        counts = served.app.state.counts
        events = served.events(COMPLETIONS, {"prompt": "one two three", "max_tokens": 9})
        assert [sorted(event) for event in events[3:]] == [["error"]]
        assert set(events[-1]["error"]) == {"message", "type", "param", "code"}
        refused(served.post(COMPLETIONS, {"prompt": "one two three"}), status)
        served.until(lambda: counts.failed == 2 if status == 500 else counts.shed == 1, "counted")


@pytest.mark.parametrize("stream", [False, True])
def test_what_ends_before_its_first_token_has_an_honest_status(serve: Serve, stream: bool) -> None:
    with serve(Parrot(fail_after=0, fail_with="shed")) as served:
        reply = served.post(COMPLETIONS, {"prompt": "a", "stream": stream})
        refused(reply, 503)
        assert reply.headers["retry-after"] == "1"
        served.until(lambda: served.app.state.counts.shed == 1, "counted")


def test_an_error_of_ours_is_one_sentence(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object, **__: object) -> list[int]:
        raise RuntimeError("secret /path 0x1234")

    with serve() as served:
        monkeypatch.setattr(TOKENIZER, "encode", explode)
        assert refused(served.post(COMPLETIONS, {"prompt": "a"}), 500)["code"] == "internal_error"
        served.until(lambda: served.app.state.counts.failed == 1, "counted")


def test_unknown_fields_are_ignored_with_one_warning_each(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with serve() as served, caplog.at_level(logging.WARNING, "headway.server"):
        for _ in range(3):
            body = {"prompt": "a", "cache_prompt": True, "bad\nname": 1}
            reply = served.post(COMPLETIONS, body)
            assert reply.status_code == 200
            assert reply.headers["x-headway-ignored"] == "cache_prompt"
    assert [record.getMessage().split()[2] for record in caplog.records] == ["cache_prompt"]


def test_prompts_answers_and_keys_stay_out_of_the_log(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(api_keys=("sk-canary",))
    key = {"authorization": "Bearer sk-canary"}
    with serve(settings=settings) as served, caplog.at_level(logging.INFO):
        served.post(COMPLETIONS, {"prompt": "canary", "user": "evil\u2028tenant"}, **key)
        served.post(COMPLETIONS, {"prompt": "canary", "n": "canary"}, **key)
        served.post(CHAT, {"messages": [{"role": "user", "content": "canary"}], "tools": 3}, **key)
    lines = [record.getMessage() for record in caplog.records if "headway" in record.name]
    assert any("/v1/completions" in line for line in lines)
    assert not any("canary" in line or "\u2028" in line for line in lines)
