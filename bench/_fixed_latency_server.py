"""An OpenAI-compatible endpoint whose latencies are known: it waits, sends, and writes down when it did.

It answers `/v1/completions` and `/v1/chat/completions` with so many tokens as were asked, the first after
`--ttft-ms` and the others `--itl-ms` apart, whatever the load. `GET /log` returns what really happened, on the
machine's monotonic clock: for each request its `x-request-id`, when it was received and when each event was handed
to the socket. It prints its address, and ends when its standard input does.

    python bench/_fixed_latency_server.py --ttft-ms 200 --itl-ms 20
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class Manners:
    """How it answers. Tokens are words here, and a chat template costs 7."""

    ttft_s: float
    itl_s: float
    tokens_per_event: int = 1
    usage: bool = True
    reject_every: int = 0  # every so many requests is turned away with 429
    break_every: int = 0  # every so many streams is cut after its first token
    vocabulary: int = 32_000
    tokenizes: bool = False
    log: list[dict[str, object]] = field(default_factory=list)
    running: int = 0
    asked: int = 0


def _prompt_tokens(body: dict[str, object]) -> int:
    prompt = body.get("prompt")
    if isinstance(prompt, list):
        return len(prompt)
    if isinstance(prompt, str):
        return len(prompt.split())
    messages = body.get("messages")
    assert isinstance(messages, list)
    return 7 + sum(len(message["content"].split()) for message in messages)


def _event(body: dict[str, object], *, chat: bool, text: str, end: str | None) -> bytes:
    choice: dict[str, object] = {"index": 0, "finish_reason": end}
    choice |= {"delta": {"content": text}} if chat else {"text": text}
    told = {"id": "x", "object": "chunk", "model": body["model"], "choices": [choice]}
    return f"data: {json.dumps(told)}\n\n".encode()


async def _answer(request: web.Request) -> web.StreamResponse:
    manners: Manners = request.app[MANNERS]
    received = time.monotonic_ns()
    manners.asked += 1
    number = manners.asked
    body = await request.json()
    wanted = int(body["max_tokens"])
    if not body.get("stream"):
        return web.json_response({"choices": [], "usage": _usage(body, 1)})
    if manners.reject_every and number % manners.reject_every == 0:
        return web.json_response({"error": {"message": "the queue is full"}}, status=429)
    entry: dict[str, object] = {
        "id": request.headers.get("x-request-id", ""),
        "headers": dict(request.headers),
        "prompt": body.get("prompt") or body.get("messages"),
        "received_ns": received,
    }
    manners.log.append(entry)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    manners.running += 1
    try:
        cut = bool(manners.break_every) and number % manners.break_every == 0
        entry["sent_ns"] = await _stream(response, body, manners, wanted, received, cut=cut)
    finally:
        manners.running -= 1
    return response


async def _stream(
    response: web.StreamResponse,
    body: dict[str, object],
    manners: Manners,
    wanted: int,
    received: int,
    *,
    cut: bool,
) -> list[int]:
    chat = "messages" in body
    sent: list[int] = []
    due = received / 1e9 + manners.ttft_s
    if chat:
        role = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
        await response.write(f"data: {json.dumps(role)}\n\n".encode())
    for first in range(0, wanted, manners.tokens_per_event):
        await asyncio.sleep(due - time.monotonic())
        last = first + manners.tokens_per_event >= wanted
        text = " word" * min(manners.tokens_per_event, wanted - first)
        event = _event(body, chat=chat, text=text, end="length" if last and not cut else None)
        sent.append(time.monotonic_ns())
        await response.write(event)
        if cut:
            return sent
        due += manners.itl_s
    if manners.usage:
        usage = {"choices": [], "usage": _usage(body, wanted)}
        await response.write(f"data: {json.dumps(usage)}\n\n".encode())
    await response.write(b"data: [DONE]\n\n")
    return sent


def _usage(body: dict[str, object], output: int) -> dict[str, object]:
    prompt = _prompt_tokens(body)
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


async def _models(request: web.Request) -> web.Response:
    card = {"id": "fixed-latency", "object": "model"}
    card["vocab_size"] = request.app[MANNERS].vocabulary  # type: ignore[assignment]
    return web.json_response({"object": "list", "data": [card]})


async def _health(request: web.Request) -> web.Response:
    del request
    return web.Response()


async def _log(request: web.Request) -> web.Response:
    return web.json_response(request.app[MANNERS].log)


async def _metrics(request: web.Request) -> web.Response:
    running = request.app[MANNERS].running
    lines = [
        "# TYPE vllm:num_requests_running gauge",
        f'vllm:num_requests_running{{engine="0"}} {running}',
        'vllm:num_requests_waiting{engine="0"} 0',
        f'vllm:kv_cache_usage_perc{{engine="0"}} {min(1.0, running / 100)}',
    ]
    return web.Response(text="\n".join(lines) + "\n")


async def _tokenize(request: web.Request) -> web.Response:
    """Two tokens a word, so that whoever asked can be told from whoever guessed."""
    if not request.app[MANNERS].tokenizes:
        raise web.HTTPNotFound
    return web.json_response({"count": 2 * _prompt_tokens(await request.json())})


MANNERS = web.AppKey("manners", Manners)


def application(manners: Manners) -> web.Application:
    app = web.Application(client_max_size=1 << 26)
    app[MANNERS] = manners
    for path in ("/v1/completions", "/v1/chat/completions"):
        app.router.add_post(path, _answer)
    app.router.add_post("/tokenize", _tokenize)
    app.router.add_get("/v1/models", _models)
    app.router.add_get("/health", _health)
    app.router.add_get("/log", _log)
    app.router.add_get("/metrics", _metrics)
    return app


async def _serve(manners: Manners, port: int) -> None:
    runner = web.AppRunner(application(manners), access_log=None, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, backlog=4096)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until our parent goes
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ttft-ms", type=float, default=100)
    parser.add_argument("--itl-ms", type=float, default=20)
    parser.add_argument("--tokens-per-event", type=int, default=1)
    parser.add_argument("--reject-every", type=int, default=0)
    parser.add_argument("--break-every", type=int, default=0)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--no-usage", action="store_true")
    parser.add_argument("--tokenizes", action="store_true")
    given = parser.parse_args()
    manners = Manners(
        given.ttft_ms / 1000,
        given.itl_ms / 1000,
        given.tokens_per_event,
        usage=not given.no_usage,
        reject_every=given.reject_every,
        break_every=given.break_every,
        vocabulary=given.vocabulary,
        tokenizes=given.tokenizes,
    )
    asyncio.run(_serve(manners, given.port))


if __name__ == "__main__":
    main()
