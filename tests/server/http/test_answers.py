"""What is answered to calls that are in order: shapes, text, ends and counts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headway.server.settings import Settings

from .conftest import CONTEXT, TOKENIZER, Parrot, Serve, Served

PROMPT = " the quick brown fox"
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello there"}]


def test_a_completion_is_the_models_text_and_counts(served: Served) -> None:
    answer = served.post(COMPLETIONS, {"prompt": PROMPT, "max_tokens": 100}).json()
    (choice,) = answer["choices"]
    assert choice["text"] == PROMPT * 2
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", None)
    prompt = len(TOKENIZER.encode(PROMPT))
    output = 2 * (prompt - 1) + 1  # without BOS, twice, and the end
    assert answer["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": 3},
    }
    assert answer["object"] == "text_completion"
    assert answer["model"] == "parrot"


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
@pytest.mark.parametrize("extra", [{}, {"stop": [" quick b"]}, {"n": 3}, {"max_tokens": 4}])
def test_a_stream_says_what_the_whole_answer_says(
    served: Served, path: str, extra: dict[str, Any]
) -> None:
    asked = {"prompt": PROMPT, "messages": [{"role": "user", "content": PROMPT}]}
    body = {"max_tokens": 60, **asked, **extra}
    whole = served.post(path, body).json()
    events = served.events(path, {**body, "stream_options": {"include_usage": True}})
    assert events[-1]["choices"] == []
    if "stop" not in extra:  # how far the engine is ahead when a stop is hit is not promised
        assert events[-1]["usage"] == whole["usage"]
    for choice in whole["choices"]:
        parts = [
            part
            for event in events
            for part in event["choices"]
            if part["index"] == choice["index"]
        ]
        assert [part["finish_reason"] for part in parts[:-1]] == [None] * (len(parts) - 1)
        assert parts[-1]["finish_reason"] == choice["finish_reason"]
        if path == CHAT:
            assert parts[0]["delta"] == {"role": "assistant", "content": ""}
            said = "".join(part["delta"].get("content", "") for part in parts)
            assert said == choice["message"]["content"]
        else:
            assert "".join(part["text"] for part in parts) == choice["text"]


def test_every_step_has_its_event_even_without_text(served: Served) -> None:
    """Clients count events as tokens: half of a character is a step too."""
    ids = TOKENIZER.encode("é" * 4)  # two bytes each, one token a byte
    events = served.events(COMPLETIONS, {"prompt": ids, "max_tokens": 8, "ignore_eos": True})
    texts = [event["choices"][0]["text"] for event in events]
    assert texts == ["", "é"] * 4 + [""]
    assert events[-1]["choices"][0]["finish_reason"] == "length"


def test_usage_comes_when_asked_and_then_as_often_as_asked(served: Served) -> None:
    body = {"prompt": PROMPT, "max_tokens": 3}
    assert all("usage" not in event for event in served.events(COMPLETIONS, body))
    once = served.events(COMPLETIONS, {**body, "stream_options": {"include_usage": True}})
    assert [event["usage"] for event in once[:-1]] == [None] * (len(once) - 1)
    options = {"include_usage": True, "continuous_usage_stats": True}
    always = served.events(COMPLETIONS, {**body, "stream_options": options})
    assert [event["usage"]["completion_tokens"] for event in always] == [1, 2, 3, 3, 3]


def test_headers_of_a_stream_keep_proxies_from_holding_it_back(served: Served) -> None:
    reply = served.post(COMPLETIONS, {"prompt": PROMPT, "stream": True})
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-accel-buffering"] == "no"


@pytest.mark.parametrize("include", [False, True])
def test_a_stop_string_across_tokens_ends_the_answer_and_the_work(
    serve: Serve, include: bool
) -> None:
    gateway = Parrot(step_s=0.002)
    with serve(gateway) as served:
        body = {"prompt": PROMPT, "max_tokens": 1000, "ignore_eos": True, "stop": ["k br", "zz"]}
        body["include_stop_str_in_output"] = include
        (choice,) = served.post(COMPLETIONS, body).json()["choices"]
        assert choice["text"] == (" the quick br" if include else " the quic")
        assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "k br")
        assert gateway.aborted == 1
        served.until_idle()


def test_an_answer_that_hit_its_stop_does_not_work_on_while_others_do(serve: Serve) -> None:
    gateway = Parrot(step_s=0.01)
    with serve(gateway) as served, served.connect() as peer:
        body = {"prompt": [" a b c", " x y z"], "max_tokens": 2000, "ignore_eos": True, "stop": "b"}
        content = json.dumps(body).encode()
        head = f"POST {COMPLETIONS} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(content)}\r\n\r\n"
        peer.sendall(head.encode() + content)
        served.until(lambda: gateway.aborted == 1, "one hit its stop")
        assert gateway.load().running == 1


@pytest.mark.parametrize("burst", [2, 3, 7])
def test_steps_of_several_tokens_say_the_same(serve: Serve, burst: int) -> None:
    with serve(Parrot(burst=burst)) as served:
        bodies: list[dict[str, Any]] = [{"max_tokens": 100}, {"max_tokens": 5}]
        bodies.append({"max_tokens": 100, "stop": ["k br"]})
        for body in bodies:
            (choice,) = served.post(COMPLETIONS, {"prompt": PROMPT, **body}).json()["choices"]
            ids = TOKENIZER.encode(PROMPT)[1:] * 2
            text = TOKENIZER.decode(ids[: body["max_tokens"]])
            assert choice["text"] == (text.partition("k br")[0] if "stop" in body else text)


def test_a_stop_string_waits_for_min_tokens(served: Served) -> None:
    once = len(TOKENIZER.encode(PROMPT)) - 1
    body = {"prompt": PROMPT, "max_tokens": 100, "stop": " quick", "min_tokens": once}
    (choice,) = served.post(COMPLETIONS, body).json()["choices"]
    assert choice["text"].count(" quick") == 1
    assert choice["finish_reason"] == "stop"


def test_a_stop_token_is_named_and_not_shown(served: Served) -> None:
    ids = TOKENIZER.encode(PROMPT)
    body = {"prompt": ids, "max_tokens": 100, "stop_token_ids": [ids[3]]}
    (choice,) = served.post(COMPLETIONS, body).json()["choices"]
    assert choice["text"] == TOKENIZER.decode(ids[1:3])
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", ids[3])


@pytest.mark.parametrize("stream", [False, True])
def test_echo_puts_the_prompt_in_front_once(served: Served, stream: bool) -> None:
    body = {"prompt": [PROMPT, "other"], "max_tokens": 2, "echo": True}
    if stream:
        events = served.events(COMPLETIONS, body)
        parts = [part for event in events for part in event["choices"]]
    else:
        parts = served.post(COMPLETIONS, body).json()["choices"]
    texts = ["".join(part["text"] for part in parts if part["index"] == k) for k in (0, 1)]
    assert texts[0].startswith(PROMPT)
    assert texts[0].count("quick") == 1
    assert texts[1].startswith("other")


@pytest.mark.parametrize("prompt", [[5, 6, 7], [[5, 6], [7, 8]], ["a", "b", "c"], "text"])
def test_prompts_come_in_four_forms(served: Served, prompt: Any) -> None:
    several = isinstance(prompt, list) and not isinstance(prompt[0], int)
    choices = served.post(COMPLETIONS, {"prompt": prompt, "n": 2}).json()["choices"]
    assert [choice["index"] for choice in choices] == list(
        range(2 * (len(prompt) if several else 1))
    )


def test_answers_of_one_prompt_have_different_seeds_that_follow_from_the_clients(
    serve: Serve,
) -> None:
    gateway = Parrot()
    with serve(gateway) as served:
        for seed in (7, 7, None, None):
            served.post(COMPLETIONS, {"prompt": "a", "n": 3, "seed": seed, "max_tokens": 1})
    seeds = [prompt.sampling.seed for prompt in gateway.prompts]
    assert seeds[:3] == seeds[3:6]
    assert seeds[0] == 7
    assert len(set(seeds[:3])) == 3
    assert len(set(seeds[6:])) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_defaults_are_those_of_the_api_and_not_greedy(serve: Serve) -> None:
    gateway = Parrot()
    with serve(gateway) as served:
        served.post(COMPLETIONS, {"prompt": "a"})
        served.post(CHAT, {"messages": HELLO})
    for prompt in gateway.prompts:
        assert (prompt.sampling.temperature, prompt.sampling.top_p) == (1.0, 1.0)
        assert prompt.sampling.logprobs is None
    assert gateway.prompts[0].max_tokens == 16
    assert gateway.prompts[1].max_tokens == CONTEXT - len(gateway.prompts[1].ids)


def test_max_tokens_is_cut_to_what_the_context_leaves(serve: Serve) -> None:
    gateway = Parrot()
    with serve(gateway) as served:
        reply = served.post(COMPLETIONS, {"prompt": [9] * (CONTEXT - 3), "max_tokens": 10**12})
        assert reply.json()["usage"]["completion_tokens"] == 3
        assert reply.json()["choices"][0]["finish_reason"] == "length"
    assert gateway.prompts[0].max_tokens == 3


@pytest.mark.parametrize("burst", [1, 4])
def test_logprobs_of_completions_line_up_with_the_text(serve: Serve, burst: int) -> None:
    with serve(Parrot(burst=burst)) as served:
        logprobs_line_up(served)


def logprobs_line_up(served: Served) -> None:
    body = {"prompt": PROMPT, "max_tokens": 6, "logprobs": 2}
    (choice,) = served.post(COMPLETIONS, body).json()["choices"]
    found = choice["logprobs"]
    for offset, token in zip(found["text_offset"], found["tokens"], strict=True):
        assert choice["text"][offset : offset + len(token)] == token
    assert found["token_logprobs"] == [-0.5] * 6
    assert [len(top) for top in found["top_logprobs"]] == [2] * 6
    parts = [event["choices"][0]["logprobs"] for event in served.events(COMPLETIONS, body)]
    assert [t for part in parts if part for t in part["tokens"]] == found["tokens"]
    assert [t for part in parts if part for t in part["text_offset"]] == found["text_offset"]


def test_logprobs_of_chats_carry_bytes(served: Served) -> None:
    body = {"messages": HELLO, "max_tokens": 4, "logprobs": True, "top_logprobs": 3}
    (choice,) = served.post(CHAT, body).json()["choices"]
    rows = choice["logprobs"]["content"]
    assert b"".join(bytes(row["bytes"]) for row in rows).decode() == choice["message"]["content"]
    assert [len(row["top_logprobs"]) for row in rows] == [3] * 4


def test_markers_that_a_user_types_are_no_markers(serve: Serve) -> None:
    gateway = Parrot()
    with serve(gateway) as served:
        served.post(CHAT, {"messages": [{"role": "user", "content": "a <eos> b"}]})
    assert not set(TOKENIZER.stops) & set(gateway.prompts[0].ids)


def test_text_parts_are_joined(serve: Serve) -> None:
    gateway = Parrot()
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    with serve(gateway) as served:
        served.post(CHAT, {"messages": [{"role": "user", "content": parts}]})
    assert "one\ntwo" in TOKENIZER.decode(gateway.prompts[0].ids)


def test_promises_and_tenant_come_from_body_header_and_default(serve: Serve) -> None:
    gateway = Parrot()
    headers = {"x-slo-ttft-ms": "250", "x-slo-tpot-ms": "40.5"}
    with serve(gateway) as served:
        served.post(COMPLETIONS, {"prompt": "a", "user": "u"}, **headers)
        body = {"prompt": "a", "user": "u", "slo": {"ttft_ms": 100, "deadline_ms": 5000}}
        tenant = {"x-gateway-inference-fairness-id": "team"}
        served.post(COMPLETIONS, body, **headers, **tenant)
        served.post(COMPLETIONS, {"prompt": "a"})
    by_header, by_body, by_nobody = gateway.prompts
    assert (by_header.slo.ttft_ns, by_header.slo.tpot_ns) == (250_000_000, 40_500_000)
    assert (by_body.slo.ttft_ns, by_body.slo.tpot_ns) == (100_000_000, 40_500_000)
    assert by_body.slo.deadline_ns == 5_000_000_000
    assert (by_header.tenant, by_body.tenant, by_nobody.tenant) == ("u", "team", "")
    assert not by_nobody.slo.promises


def test_a_request_id_is_echoed_or_made(served: Served) -> None:
    reply = served.post(COMPLETIONS, {"prompt": "a"}, **{"x-request-id": "my-id"})
    assert reply.headers["x-request-id"] == "my-id"
    assert reply.json()["id"] == "cmpl-my-id"
    assert len(served.get("/v1/models").headers["x-request-id"]) == 32


def test_tokenize_and_back(served: Served) -> None:
    body = {"prompt": PROMPT, "return_token_strs": True}
    answer = served.post("/tokenize", body).json()
    assert answer["tokens"] == TOKENIZER.encode(PROMPT)
    assert answer["count"] == len(answer["tokens"]) == len(answer["token_strs"])
    assert answer["max_model_len"] == CONTEXT
    bare = served.post("/tokenize", {"prompt": PROMPT, "add_special_tokens": False}).json()
    assert bare["tokens"] == answer["tokens"][1:]
    assert served.post("/detokenize", {"tokens": bare["tokens"]}).json() == {"prompt": PROMPT}
    chat = served.post("/tokenize", {"messages": HELLO}).json()
    assert TOKENIZER.decode(chat["tokens"]) == "<user> hello there <assistant>"


def test_what_the_server_says_of_itself(serve: Serve) -> None:
    gateway = Parrot()
    with serve(gateway) as served:
        (card,) = served.get("/v1/models").json()["data"]
        assert (card["id"], card["max_model_len"]) == ("parrot", CONTEXT)
        assert served.get("/v1/models/parrot").json() == card
        assert served.get("/v1/models/other").json()["error"]["code"] == "model_not_found"
        assert served.get("/metrics").text == "some 1\n"
        assert served.get("/load").json()["running"] == 0
        assert served.get("/version").json()["version"]
        assert [served.get(path).status_code for path in ("/livez", "/readyz", "/health")] == [
            200
        ] * 3
        gateway.ready = "the model is being loaded"
        assert served.get("/livez").status_code == 200
        for path in ("/readyz", "/health"):
            reply = served.get(path)
            assert reply.status_code == 503
            assert reply.json()["error"]["message"] == "The model is being loaded."


def test_a_conversation_is_one_for_its_key_its_tenant_and_its_name(serve: Serve) -> None:
    with serve(settings=Settings(api_keys=("one", "two"))) as served:

        def session(key: str = "one", header: str = "", **body: str) -> int | None:
            headers = {"authorization": f"Bearer {key}"} | (
                {"x-session-id": header} if header else {}
            )
            asked = {"prompt": "hello", "max_tokens": 1} | body
            assert served.post("/v1/completions", asked, **headers).status_code == 200
            return served.gateway.prompts[-1].session

        named = session(prompt_cache_key="a")
        assert named is not None
        assert 0 <= named < 1 << 63
        assert named == session(prompt_cache_key="a") == session(header="a", prompt_cache_key="b")
        others = [
            session("two", prompt_cache_key="a"),
            session(prompt_cache_key="b"),
            session(prompt_cache_key="a", user="b"),
            session(prompt_cache_key="ba", user=""),
        ]
        assert len({named, *others}) == 5
        assert session() is session(prompt_cache_key="") is None
