"""Conversations over a real socket, with a real server in front of a real host process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client")
pytest.importorskip("uvicorn")
pytest.importorskip("torch")
httpx = pytest.importorskip("httpx")

from headway.api.decision_replay import replay_decisions  # noqa: E402
from headway.checkpoint.chat_template import ChatTemplate, TemplateSource  # noqa: E402
from headway.checkpoint.synthetic_tokenizer import SyntheticTokenizer  # noqa: E402
from headway.clocks.wall import WallClock  # noqa: E402
from headway.host import HostSpec  # noqa: E402
from headway.records import read_run_log  # noqa: E402
from headway.runtime import load_policy  # noqa: E402
from headway.server.app import create_app  # noqa: E402
from headway.server.gateway import FleetGateway  # noqa: E402
from headway.server.listener import listen  # noqa: E402
from headway.server.settings import Settings  # noqa: E402
from headway.server.stream import ServedModel  # noqa: E402
from headway.testing.tiny_files import TinyShape, save_tiny_gemma  # noqa: E402

pytestmark = pytest.mark.slow

BLOCK, SAID = 8, 24
TOKENIZER = SyntheticTokenizer()
TURNS = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
QUESTION = "how long does a request wait behind others that are no shorter than it is"
Post = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = TinyShape(vocab_size=TOKENIZER.size, num_hidden_layers=2)
    return save_tiny_gemma(tmp_path_factory.mktemp("model"), shape)


@contextlib.contextmanager
def serving(model: Path, keys: tuple[str, ...] = (), **given: Any) -> Iterator[Post]:
    """A server with a host of its own; `post` sends a chat and checks that it was answered."""
    options: dict[str, Any] = {"blocks": 96, "block_tokens": BLOCK, "threads": 1} | given
    spec = HostSpec(str(model), **options)
    served = ServedModel("m", 0, 96 * BLOCK, TOKENIZER.size, spec.blocks, BLOCK, "live")
    loop, ready, ports = asyncio.new_event_loop(), threading.Event(), list[int]()
    shutdown = asyncio.Event()

    def on_ready(port: int) -> None:
        ports.append(port)
        ready.set()

    async def run() -> None:
        policies = load_policy("admission", "unbounded"), load_policy("routing", "least_work")
        gateway = FleetGateway(WallClock(loop), served, [spec], policies)
        try:
            await gateway.start()
            app = create_app(gateway, TOKENIZER, template, Settings(api_keys=keys))
            await listen(app, "127.0.0.1", 0, shutdown=shutdown, on_ready=on_ready, grace_s=0.3)
        finally:
            await gateway.close()

    with ChatTemplate(TemplateSource(TURNS, "a test")) as template:
        thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
        thread.start()
        assert ready.wait(60), "the server did not start"
        with httpx.Client(timeout=60, base_url=f"http://127.0.0.1:{ports[0]}") as client:

            def post(path: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
                reply = client.post(path, json=body, headers=headers)
                return {"status": reply.status_code, **reply.json()}

            yield post
        loop.call_soon_threadsafe(shutdown.set)
        thread.join(30)
        assert not thread.is_alive(), "the server did not end"
        loop.close()


def chat(post: Post, messages: list[dict[str, str]], body: Any = None, **headers: str) -> Any:
    """Ask, and add question and answer to the messages; returns the usage."""
    asked = {"messages": messages, "max_tokens": SAID, "temperature": 0, "ignore_eos": True}
    reply = post("/v1/chat/completions", asked | (body or {}), **headers)
    assert reply["status"] == 200, reply
    messages.append({"role": "assistant", "content": reply["choices"][0]["message"]["content"]})
    return reply["usage"]


def talk(post: Post, turns: int, body: Any = None, **headers: str) -> tuple[list[Any], list[Any]]:
    """A conversation: its messages, and the usage of each turn."""
    messages, usages = list[dict[str, str]](), []
    for turn in range(turns):
        messages.append({"role": "user", "content": f"{QUESTION} {turn}"})
        usages.append(chat(post, messages, body, **headers))
    return messages, usages


def cached(usage: dict[str, Any]) -> int:
    return int(usage["prompt_tokens_details"]["cached_tokens"])


@pytest.fixture(scope="module")
def copying(model: Path) -> Iterator[Post]:
    """What it computed it keeps for named conversations only, on the host."""
    with serving(model, ("one", "two"), prefix_cache=False, memory="fastswitch") as post:
        yield post


ONE, TWO = {"authorization": "Bearer one"}, {"authorization": "Bearer two"}


def test_later_turns_say_the_same_and_compute_less(
    model: Path, copying: Post, tmp_path: Path
) -> None:
    log = tmp_path / "run.jsonl"
    plain, misses = talk(copying, 3, **ONE)
    with_copies, copies = talk(copying, 3, **ONE, **{"x-session-id": "talk"})
    with serving(model, run_log=str(log)) as post:
        with_cache, hits = talk(post, 3)
    assert with_cache == with_copies == plain
    assert [cached(one) for one in misses] == [0] * 3
    for usages in (hits, copies):
        assert cached(usages[0]) == 0
        for before, usage in pairwise(usages):
            assert before["prompt_tokens"] < cached(usage) < before["total_tokens"], "answers too"
    told = read_run_log(log)
    assert all(line.answer for line in told.ended)
    assert replay_decisions(told).whole, "a replay finds the same blocks again"


def test_who_names_a_conversation_alike_gets_nothing_of_it(copying: Post) -> None:
    """One after the other continues the same words under the same name, with another key, tenant or name."""
    named = {"prompt_cache_key": "a chat"}
    said, _ = talk(copying, 1, named, **ONE)
    said.append({"role": "user", "content": "and then"})
    for body, headers in (
        (named, TWO),
        (named | {"user": "somebody"}, ONE),
        ({"prompt_cache_key": "another"}, ONE),
        ({}, ONE),
    ):
        assert cached(chat(copying, list(said), body, **headers)) == 0
    assert cached(chat(copying, list(said), named, **ONE)) > 0
