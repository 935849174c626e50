import json
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from headway.core import Request
from headway.loadgen.call import Call
from headway.loadgen.server_watch import read_metrics
from headway.loadgen.wire import EventSplitter, read_chunk, sentence_of

STREAM = b': ping\n\nevent: x\r\ndata: {"a": 1}\r\n\r\ndata:{"b": "\xc3\xa9"}\n\ndata: [DONE]\n\n'


@given(cuts=st.lists(st.integers(0, len(STREAM))))
def test_events_do_not_depend_on_how_they_were_cut(cuts: list[int]) -> None:
    splitter = EventSplitter()
    places = sorted({0, len(STREAM), *cuts})
    events = [
        event for start, stop in pairwise(places) for event in splitter.feed(STREAM[start:stop])
    ]
    assert events == [b'{"a": 1}', '{"b": "é"}'.encode(), b"[DONE]"]


def heard(*choices: dict[str, object], usage: int | None = None) -> Call:
    call = Call(Request(1, 0, 2, 9), 9)
    for now, choice in enumerate(choices, 1):
        call.hear(read_chunk(json.dumps({"choices": [choice]}).encode()), now)
    if usage is not None:
        told = {"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": usage}}
        call.hear(read_chunk(json.dumps(told).encode()), 99)
    return call


@pytest.mark.parametrize(
    ("choices", "stamps"),
    [
        ([{"text": "a"}, {"text": "b", "finish_reason": "stop"}], [1, 2]),
        ([{"text": ""}, {"text": "é"}, {"text": "", "finish_reason": "stop"}], [1, 2]),
        ([{"delta": {"role": "assistant", "content": ""}}, {"delta": {"content": "a"}}], [2]),
        ([{"delta": {"role": "assistant"}}, {"delta": {"reasoning_content": "a"}}], [2]),
        ([{"delta": {"role": "assistant", "content": "a"}}, {"delta": {}}], [1, 2]),
        ([{"delta": {"tool_calls": [{"index": 0}]}}, {"delta": {}, "finish_reason": "x"}], [1]),
    ],
)
def test_which_events_are_tokens(choices: list[dict[str, object]], stamps: list[int]) -> None:
    call = heard(*choices, usage=7)
    assert list(call.stamps) == stamps
    assert (call.first_ns, call.last_ns) == (stamps[0], stamps[-1])
    assert call.usage is not None
    assert call.usage.completion_tokens == 7


def test_errors_inside_a_stream_are_heard() -> None:
    call = Call(Request(1, 0, 2, 9), 9)
    assert not call.hear(read_chunk(b'{"error": {"message": "out of memory", "code": 500}}'), 1)
    assert (call.outcome, call.error) == ("failed", "out of memory")
    with pytest.raises(ValueError, match="no chunk"):
        read_chunk(b"<html>")
    assert heard({"text": "", "finish_reason": "abort"}).outcome == "failed"


@given(st.binary(max_size=40) | st.recursive(st.none() | st.text(), lambda s: st.dictionaries(
    st.sampled_from(["error", "message", "detail"]), s)).map(lambda told: json.dumps(told).encode()))  # fmt: skip
def test_any_error_body_becomes_a_sentence(body: bytes) -> None:
    assert isinstance(sentence_of(body), str)


def test_error_bodies_of_known_servers() -> None:
    assert sentence_of(b'{"error": {"message": "too long"}}') == "too long"
    assert sentence_of(b'{"object": "error", "message": "too long"}') == "too long"
    assert sentence_of(b'{"detail": "Not Found"}') == "Not Found"
    assert sentence_of(b"Bad Gateway") == "Bad Gateway"


def test_metrics_of_several_engines_and_several_servers() -> None:
    text = (
        b'vllm:num_requests_running{engine="0",model_name="m"} 3.0\n'
        b'vllm:num_requests_running{engine="1",model_name="m"} 2.0\n'
        b"vllm:num_requests_waiting 1e1\n"
        b'vllm:kv_cache_usage_perc{engine="0"} 0.25\nvllm:kv_cache_usage_perc{engine="1"} 0.5\n'
    )
    assert read_metrics(text) == {"running": 5, "waiting": 10, "kv_usage": 0.5}
    assert read_metrics(b"llamacpp:requests_deferred 2\n") == {"waiting": 2}
    assert read_metrics(b"process_cpu_seconds_total 2\n") == {}
