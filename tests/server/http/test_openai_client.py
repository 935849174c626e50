"""The official client against the real server: answers, streams, and errors as the exceptions they mean."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

openai = pytest.importorskip("openai")

from headway.server.settings import Settings  # noqa: E402
from headway.server.stream import Overloaded  # noqa: E402

from .conftest import TOKENIZER, Parrot, Serve, Served  # noqa: E402

PROMPT = " the quick brown fox"
HELLO: list[Any] = [{"role": "user", "content": "hello there"}]


def client_of(served: Served, key: str = "none") -> Any:
    return openai.OpenAI(base_url=served.url + "/v1", api_key=key, max_retries=0)


def test_completions(served: Served) -> None:
    with client_of(served) as client:
        options: dict[str, Any] = {"model": "parrot", "prompt": PROMPT, "max_tokens": 100}
        whole = client.completions.create(**options)
        assert whole.choices[0].text == PROMPT * 2
        assert whole.usage.completion_tokens > 1
        stream = client.completions.create(
            **options, stream=True, stream_options={"include_usage": True}, extra_body={"top_k": 5}
        )
        chunks = list(stream)
        assert "".join(c.choices[0].text for c in chunks if c.choices) == PROMPT * 2
        assert chunks[-1].usage == whole.usage


def test_chats(served: Served) -> None:
    with client_of(served) as client:
        options: dict[str, Any] = {"model": "parrot", "messages": HELLO, "max_tokens": 40}
        whole = client.chat.completions.create(**options, logprobs=True, top_logprobs=1)
        text = whole.choices[0].message.content
        assert whole.choices[0].message.role == "assistant"
        assert whole.choices[0].logprobs.content[0].top_logprobs[0].logprob == -0.5
        chunks = list(client.chat.completions.create(**options, stream=True))
        assert chunks[0].choices[0].delta.role == "assistant"
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == text
        assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
        with client.chat.completions.stream(**options) as events:
            assert events.get_final_completion().choices[0].message.content == text


def test_asynchronous_calls_side_by_side(served: Served) -> None:
    async def ask(client: Any, number: int) -> str:
        stream = await client.completions.create(
            model="parrot", prompt=f" number {number}", max_tokens=60, stream=True
        )
        return "".join([chunk.choices[0].text async for chunk in stream])

    async def all_of_them() -> list[str]:
        url = served.url + "/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as client:
            assert (await client.models.list()).data[0].id == "parrot"
            whole = await client.completions.create(model="parrot", prompt=[4, 5, 6])
            assert whole.choices[0].text == TOKENIZER.decode([4, 5, 6] * 2)
            return await asyncio.gather(*(ask(client, number) for number in range(20)))

    assert asyncio.run(all_of_them()) == [f" number {number}" * 2 for number in range(20)]


def test_errors_become_the_exceptions_they_mean(serve: Serve) -> None:
    gateway = Parrot()
    settings = Settings(api_keys=("sk-right",), most_body_bytes=100_000)
    with serve(gateway, settings) as served:
        with client_of(served, "sk-wrong") as client, pytest.raises(openai.AuthenticationError):
            client.models.list()
        with client_of(served, "sk-right") as client:
            ask = client.completions.create
            with pytest.raises(openai.BadRequestError) as bad:
                ask(model="parrot", prompt=PROMPT, temperature=-1)
            assert bad.value.param == "temperature"
            with pytest.raises(openai.BadRequestError) as bad:
                ask(model="parrot", prompt=[9] * 5000)
            assert bad.value.code == "context_length_exceeded"
            with pytest.raises(openai.NotFoundError) as missing:
                ask(model="gpt-9", prompt=PROMPT)
            assert missing.value.code == "model_not_found"
            with pytest.raises(openai.APIStatusError) as large:
                ask(model="parrot", prompt="x" * 300_000)
            assert large.value.status_code == 413
            gateway.fail_after = 2
            with pytest.raises(openai.APIError) as broken:
                list(ask(model="parrot", prompt=PROMPT, stream=True))
            assert broken.value.code == "step_failed"
            with pytest.raises(openai.InternalServerError):
                ask(model="parrot", prompt=PROMPT)
            gateway.refusal = Overloaded("full", retry_after_s=3)
            with pytest.raises(openai.InternalServerError) as full:
                ask(model="parrot", prompt=PROMPT)
            assert full.value.status_code == 503
            assert full.value.response.headers["retry-after"] == "3"
