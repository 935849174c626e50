"""Whatever is sent: an answer or a refusal in the usual shape, never our fault, and nothing left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from headway.server.bodies import ChatBody, CompletionBody, DetokenizeBody, TokenizeBody

from .conftest import Parrot, Serve, Served

SCRIPT = Path(__file__).parents[3] / "bench" / "fuzz_server.py"
CONTROL = {"prompt": " the quick brown fox", "max_tokens": 12, "temperature": 0, "seed": 1}
KINDS = {
    "/v1/completions": CompletionBody,
    "/v1/chat/completions": ChatBody,
    "/tokenize": TokenizeBody,
    "/detokenize": DetokenizeBody,
}
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["user", "text", "a b c", "\x00", "<eos>", "\ufdd0", "json_object"])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "5", "ttft_ms"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "system", "assistant"]), "content": st.text(max_size=30)}
    ),
    min_size=1,
    max_size=3,
)


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, bytes]:
    """A path and a body: mostly sound, some of its fields replaced by anything."""
    path = draw(st.sampled_from(sorted(KINDS)))
    body: dict[str, Any] = {"max_tokens": draw(st.integers(1, 4))}
    if draw(st.booleans()):
        body["prompt"] = draw(st.text(max_size=30) | st.lists(st.integers(0, 32_000), max_size=9))
    if draw(st.booleans()):
        body["messages"] = draw(MESSAGES)
    body["tokens"] = draw(st.lists(st.integers(0, 32_000), max_size=5))
    for name in draw(st.lists(st.sampled_from(KINDS[path].__struct_fields__), max_size=3)):
        body[name] = draw(VALUES)
    data = json.dumps(body).encode()
    if draw(st.integers(0, 4)) == 0:  # damage it
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=4)) + data[at + draw(st.integers(0, 4)) :]
    return path, data


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=20) as made:
        yield made


def control(client: httpx.Client) -> Any:
    return client.post("/v1/completions", json=CONTROL).json()["choices"]


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(call=calls())
def test_no_body_is_our_fault(client: httpx.Client, call: tuple[str, bytes]) -> None:
    path, data = call
    reply = client.post(path, content=data)
    assert reply.status_code in {200, 400, 404}, reply.text
    if reply.status_code != 200:
        assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    elif reply.headers["content-type"].startswith("text/event-stream"):
        assert reply.text.endswith("data: [DONE]\n\n")
        assert '"error"' not in reply.text.rsplit("data: ", 2)[-2][:9]
    else:
        reply.json()


def test_nothing_is_left_behind(served: Served, client: httpx.Client) -> None:
    assert control(client) == control(client)
    served.until_idle()
    counts = served.app.state.counts
    assert counts.failed == counts.shed == 0


def test_the_fuzzing_script_finds_the_server_sound(serve: Serve) -> None:
    with serve(Parrot(step_s=0.001)) as served:
        command = [sys.executable, str(SCRIPT), served.url, "-n", "300", "--seed", "3", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["requests"] == 300
        assert sum(found["outcomes"].values()) == 300
        assert found["server_errors"] == []
        assert found["control_is_identical"] and found["idle_afterwards"]
        assert {"200", "400", "left"} <= set(found["outcomes"])


def test_the_fuzzing_script_notices_a_server_that_is_not(serve: Serve) -> None:
    with serve(Parrot(fail_after=2)) as served:
        command = [sys.executable, str(SCRIPT), served.url, "-n", "60", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 1
