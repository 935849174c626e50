"""A gateway that parrots, and the real server in front of it on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
httpx = pytest.importorskip("httpx")

from headway.checkpoint.chat_template import ChatTemplate, TemplateSource  # noqa: E402
from headway.checkpoint.synthetic_tokenizer import EOS, SyntheticTokenizer  # noqa: E402
from headway.core.fleet import FINISHED_OK  # noqa: E402
from headway.core.sampling import TokenLogprob  # noqa: E402
from headway.server.app import create_app  # noqa: E402
from headway.server.guarded_connection import ConnectionLimits  # noqa: E402
from headway.server.listener import listen  # noqa: E402
from headway.server.settings import Settings  # noqa: E402
from headway.server.stream import (  # noqa: E402
    Load,
    Overloaded,
    Piece,
    Prompt,
    ServedModel,
    Stream,
)

CONTEXT = 2048
TURNS = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
TOKENIZER = SyntheticTokenizer()
MODEL = ServedModel("parrot", 1_700_000_000, CONTEXT, TOKENIZER.size, 512, 16, "sim")


@dataclass
class Parrot:
    """A `Gateway` that says the prompt twice, one token a step, and then ends.

    It never ends for who ignores the end. `fail_after` tokens a stream ends with `fail_with`. A step brings
    `burst` tokens, as with drafts that were right.
    """

    step_s: float = 0.0
    burst: int = 1
    ready: str = ""
    refusal: Overloaded | None = None
    fail_after: int | None = None
    fail_with: str = "failed"
    model: ServedModel = MODEL
    prompts: list[Prompt] = field(default_factory=list)
    checked: int = 0
    aborted: int = 0
    _tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict)

    def check(self, prompts: int, tenant: str) -> None:
        self.checked += 1
        if self.refusal is not None:
            raise self.refusal

    async def submit(self, prompt: Prompt) -> Stream:
        self.prompts.append(prompt)
        number = len(self.prompts)
        stream = Stream(number, self._abort)
        self._tasks[number] = asyncio.get_running_loop().create_task(self._speak(prompt, stream))
        return stream

    def load(self) -> Load:
        return Load(len(self._tasks), 0, 0.0)

    def _abort(self, number: int) -> None:
        task = self._tasks.pop(number, None)
        if task is not None:  # else everything was said, but not all of it read
            self.aborted += 1
            task.cancel()

    async def _speak(self, prompt: Prompt, stream: Stream) -> None:
        sampling = prompt.sampling
        said = [token for token in prompt.ids if token > EOS] or [EOS + 1]
        made: list[int] = []
        for n in range(prompt.max_tokens):
            if n == self.fail_after:
                stream.push(Piece((), (), n, self.fail_with))
                break
            over = n >= 2 * len(said) and n >= sampling.min_tokens and not sampling.ignore_eos
            made.append(EOS if over else said[n % len(said)])
            last = over or made[-1] in sampling.stop_ids or n + 1 == prompt.max_tokens
            if last or len(made) == self.burst:
                await asyncio.sleep(self.step_s)
                logprobs = tuple(_logprob(token, sampling.logprobs or 0) for token in made)
                asked = sampling.logprobs is not None
                stream.push(Piece(tuple(made), logprobs if asked else (), n, cached_tokens=3))
                made.clear()
            if last:
                stream.push(Piece((), (), n, FINISHED_OK))
                break
        self._tasks.pop(stream.request_id, None)


def _logprob(token: int, asked: int) -> TokenLogprob:
    return TokenLogprob(-0.5, tuple((token + k, -0.5 - k) for k in range(asked)))


@dataclass
class Served:
    """A running server, seen from a client's side."""

    port: int
    gateway: Parrot
    app: Any
    loop: asyncio.AbstractEventLoop
    client: Any = None

    def __post_init__(self) -> None:
        self.client = httpx.Client(timeout=30, verify=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def post(self, path: str, body: Any, **headers: str) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.post(
            self.url + path,
            content=content,
            headers={"content-type": "application/json", **headers},
        )

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(self.url + path, headers=headers)

    def events(self, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Every event of a streaming call; [DONE] must be the last line, and is left out."""
        text = self.post(path, {**body, "stream": True}).text
        lines = text.split("\n\n")
        assert lines[-2:] == ["data: [DONE]", ""]
        assert all(line.startswith("data: ") for line in lines[:-1])
        return [json.loads(line[6:]) for line in lines[:-2]]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def call(self, function: Callable[[], Any]) -> Any:
        """Call something on the server's loop."""

        async def there() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(there(), self.loop).result(20)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a state of the server."""

        async def there() -> None:
            while not condition():  # noqa: ASYNC110 - a test looks from outside, nobody tells it
                await asyncio.sleep(0.01)

        try:
            asyncio.run_coroutine_threadsafe(there(), self.loop).result(20)
        except TimeoutError:
            pytest.fail(f"never happened: {what}")

    def until_idle(self) -> None:
        self.until(lambda: not self.gateway.load().running, "every stream ended")


Serve = Callable[..., contextlib.AbstractContextManager[Served]]


@pytest.fixture(scope="session")
def template() -> Iterator[ChatTemplate]:
    with ChatTemplate(TemplateSource(TURNS, "a test")) as made:
        yield made


@pytest.fixture(scope="session")
def serve(template: ChatTemplate) -> Serve:
    @contextlib.contextmanager
    def start(
        gateway: Parrot | None = None,
        settings: Settings | None = None,
        limits: ConnectionLimits | None = None,
        chats: ChatTemplate | None = template,
    ) -> Iterator[Served]:
        gateway = gateway or Parrot()
        ready, ports = threading.Event(), []
        loop = asyncio.new_event_loop()
        shutdown = asyncio.Event()

        def on_ready(port: int) -> None:
            ports.append(port)
            ready.set()

        async def run() -> None:
            await listen(
                app,
                "127.0.0.1",
                0,
                shutdown=shutdown,
                on_ready=on_ready,
                grace_s=0.3,
                limits=limits,
            )

        app = create_app(gateway, TOKENIZER, chats, settings, lambda: b"some 1\n")
        thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
        thread.start()
        assert ready.wait(20), "the server did not start"
        served = Served(ports[0], gateway, app, loop)
        try:
            yield served
        finally:
            served.client.close()
            loop.call_soon_threadsafe(shutdown.set)
            thread.join(20)
            assert not thread.is_alive(), "the server did not end"
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    return start


@pytest.fixture(scope="module")
def served(serve: Serve) -> Iterator[Served]:
    """One server for the tests of a file that leave it as it was."""
    with serve() as running:
        yield running
