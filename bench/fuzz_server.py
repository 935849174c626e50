"""Send a server thousands of calls that nobody should send, and see whether it is the same afterwards.

Usage: python bench/fuzz_server.py URL [-n 5000] [--seed 0] [--concurrency 16] [--key KEY] [--json]
Calls are random or malformed JSON, bad UTF-8, NUL, absurd numbers, wrong types, deep nesting, raw bytes, and clients
that leave at any moment. Prints how they ended. Exits with 1 if there was a 5xx other than 503, a reply that is no
HTTP or an error in another shape, or more than 1 % of answers unfinished after 20 s; or if afterwards a greedy
control request is answered differently, or /load does not fall back to 0. The same seed draws the same calls.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import Progress

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
PATHS = [COMPLETIONS] * 6 + [CHAT] * 4 + ["/tokenize", "/detokenize"]
CONTROL = {"prompt": "The capital of France is", "max_tokens": 8, "temperature": 0, "seed": 1}
NUMBERS = [
    0,
    1,
    -1,
    2,
    3,
    0.5,
    -0.0,
    1e-320,
    1e308,
    2**31,
    2**53 + 1,
    2**63,
    2**64,
    -(2**70),
    10**40,
    10**400,
]
TEXTS = [
    "",
    "a",
    "hello there",
    "\x00",
    "\ud800",
    "\u202e",
    "é" * 50,
    "<eos>",
    "</s>",
    "<|im_end|>",
    "\ufdd0",
    "{{ 1 }}",
    "../../etc/passwd",
    "😀" * 9,
    "x" * 5000,
    "true",
    "NaN",
    "1e999",
    "\r\nSet-Cookie: a=b",
]
FIELDS = """
model max_tokens temperature top_p n stream stream_options stop seed presence_penalty
frequency_penalty logit_bias user top_k min_p repetition_penalty min_tokens ignore_eos
stop_token_ids include_stop_str_in_output skip_special_tokens slo response_format prompt messages
echo logprobs best_of suffix max_completion_tokens top_logprobs tools tool_choice tokens guided_json
chat_template chat_template_kwargs add_generation_prompt priority cache_salt unknown
""".split()
ODD_HEADERS = [
    "x-slo-ttft-ms: {}",
    "x-slo-tpot-ms: {}",
    "x-gateway-inference-fairness-id: {}",
    "x-request-id: {}",
    "content-type: {}",
    "accept: {}",
    "expect: 100-continue",
    "connection: {}",
]
TIMEOUT_S = 20.0


@dataclass
class Found:
    """What happened to the calls."""

    outcomes: Counter[str] = field(default_factory=Counter)
    server_errors: list[str] = field(default_factory=list)

    def note(self, what: str, sent: bytes) -> None:
        """Keep a finding with the call that led to it."""
        if len(self.server_errors) < 20:
            self.server_errors.append(f"{what} after {sent[:300]!r}")


class Generator:
    """Draws calls."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)

    def call(self, key: str) -> tuple[bytes, str]:
        """One call as bytes, and what its client does: `read` it all, or `leave` early."""
        draw = self.draw
        if draw.random() < 0.04:
            return draw.randbytes(draw.randrange(1, 300)) + b"\r\n\r\n", "read"
        body = self.body()
        head = [f"POST {draw.choice(PATHS)} HTTP/1.1", "host: fuzz", "connection: close"]
        if key:
            head.append(f"authorization: Bearer {key}")
        if draw.random() < 0.1:
            odd = draw.choice(ODD_HEADERS).format(
                draw.choice(["-1", "nan", "1e400", "\x01", "a" * 5000, "é"])
            )
            head.append(odd)
        if draw.random() < 0.1:
            chunks = [body[at : at + 700] for at in range(0, len(body), 700)]
            head.append("transfer-encoding: chunked")
            body = (
                b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
            )
        else:
            head.append(f"content-length: {len(body)}")
        sent = "\r\n".join([*head, "", ""]).encode("utf-8") + body
        if draw.random() < 0.15:
            cut = draw.randrange(len(sent)) if draw.random() < 0.3 else len(sent)
            return sent[:cut], "leave"
        return sent, "read"

    def body(self) -> bytes:
        """A body: sound ones with some fields replaced by anything, then perhaps damaged."""
        draw = self.draw
        kind = draw.random()
        if kind < 0.05:
            return draw.randbytes(draw.randrange(200))
        if kind < 0.1:
            depth = draw.choice([10, 900, 5000, 200_000])
            return (
                b'{"prompt":"a","%b":' % draw.choice([b"x", b"stop"])
                + draw.choice([b"[", b'{"a":']) * depth
            )
        body: dict[str, Any] = {"max_tokens": draw.randrange(1, 9), "prompt": "hello"}
        body["messages"] = [{"role": "user", "content": "hello"}]
        if draw.random() < 0.3:
            body["stream"] = True
        for name in draw.sample(FIELDS, draw.choice([0, 1, 1, 2, 4])):
            body[name] = self.value(3)
        if body.get("ignore_eos"):
            body["max_tokens"] = 8
        data = json.dumps(body, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
        if draw.random() < 0.15:
            at = draw.randrange(len(data))
            data = (
                data[:at]
                + draw.choice([b"\xff", b"\x00", b"NaN", b'"', b"}", b"", b',"n":1'])
                + data[at + 1 :]
            )
        return data

    def value(self, depth: int) -> Any:
        """Anything that JSON can say, and a little more."""
        draw = self.draw
        kind = draw.randrange(9 if depth else 5)
        if kind == 0:
            return draw.choice([None, True, False])
        if kind in (1, 2):
            return draw.choice(NUMBERS)
        if kind in (3, 4):
            return draw.choice(TEXTS)
        if kind == 5:
            return [draw.choice(NUMBERS[:6])] * draw.choice([1, 17, 3000])
        if kind in (6, 7):
            return [self.value(depth - 1) for _ in range(draw.randrange(4))]
        names = [
            "role",
            "content",
            "type",
            "text",
            "ttft_ms",
            "include_usage",
            "5",
            "-1",
            "9" * 30,
            "x",
        ]
        return {draw.choice(names): self.value(depth - 1) for _ in range(draw.randrange(4))}


async def send(host: str, port: int, sent: bytes, then: str, wait_s: float) -> bytes:
    """Send one call and return the reply; empty when the client leaves."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(sent)
        await writer.drain()
        if then == "leave":
            await asyncio.sleep(wait_s)
            return b""
        return await asyncio.wait_for(reader.read(-1), TIMEOUT_S)
    finally:
        writer.transport.abort()


def judge(found: Found, sent: bytes, reply: bytes) -> None:
    """Sort a reply, and note it if it is the server's fault."""
    head, _, body = reply.partition(b"\r\n\r\n")
    words = head.split(b"\r\n")[-1].split() if head.startswith(b"HTTP/1.1 100") else head.split()
    if head.startswith(b"HTTP/1.1 100"):
        head, _, body = body.partition(b"\r\n\r\n")
        words = head.split()
    if len(words) < 2 or words[0] != b"HTTP/1.1":
        found.outcomes["no reply"] += 1
        found.note("no reply", sent)
        return
    status = int(words[1])
    found.outcomes[str(status)] += 1
    if status >= 500 and status != 503:
        found.note(str(status), sent)
    elif status >= 400:
        try:
            fine = set(json.loads(body)["error"]) >= {"message", "type", "code"}
        except (ValueError, KeyError, TypeError):
            fine = False
        if not fine:
            found.note(f"a {status} in another shape", sent)
    elif b"text/event-stream" in head and not body.rstrip(b"\r\n0").endswith(b"data: [DONE]"):
        found.note("a stream without its end", sent)
    elif b'data: {"error"' in body and b'"overloaded"' not in body:
        found.note("a stream that broke off", sent)


async def ask(host: str, port: int, method: str, path: str, body: Any, key: str) -> Any:
    """One sound call; its body as JSON, or None if it was refused."""
    data = json.dumps(body).encode() if body else b""
    head = [
        f"{method} {path} HTTP/1.1",
        "host: fuzz",
        "connection: close",
        f"content-length: {len(data)}",
    ]
    head += [f"authorization: Bearer {key}"] if key else []
    reply = await send(host, port, "\r\n".join([*head, "", ""]).encode() + data, "read", 0)
    return json.loads(reply.partition(b"\r\n\r\n")[2]) if b" 200 " in reply[:20] else None


async def fuzz(options: argparse.Namespace) -> dict[str, Any]:
    """Send everything and report."""
    parts = urlsplit(options.url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    found, generator = Found(), Generator(options.seed)
    before = await ask(host, port, "POST", COMPLETIONS, CONTROL, options.key)
    left = iter(range(options.n))

    async def client(advance: Any) -> None:
        for _ in left:
            sent, then = generator.call(options.key)
            wait_s = generator.draw.choice([0, 0.001, 0.01, 0.05])
            try:
                reply = await send(host, port, sent, then, wait_s)
            except TimeoutError:  # perhaps a long answer: damage may have taken max_tokens away
                found.outcomes["unfinished"] += 1
            except OSError as error:
                found.outcomes["reset"] += 1
                if isinstance(error, ConnectionRefusedError):
                    found.note("refused", sent)
            else:
                if then == "leave":
                    found.outcomes["left"] += 1
                else:
                    judge(found, sent, reply)
            advance()

    with Progress(console=Console(stderr=True), disable=options.json) as progress:
        task = progress.add_task("fuzzing", total=options.n)
        await asyncio.gather(
            *(client(lambda: progress.advance(task)) for _ in range(options.concurrency))
        )
    after = await ask(host, port, "POST", COMPLETIONS, CONTROL, options.key)
    idle, deadline = False, time.monotonic() + 10
    while not idle and time.monotonic() < deadline:
        load = await ask(host, port, "GET", "/load", None, options.key) or {}
        idle = load.get("running") == 0 and load.get("waiting") == 0
        await asyncio.sleep(0.1)
    if found.outcomes["unfinished"] > 1 + options.n / 100:
        found.note(f"{found.outcomes['unfinished']} unfinished answers", b"all of it")
    same = before is not None and after is not None and before["choices"] == after["choices"]
    return {
        "requests": options.n,
        "outcomes": dict(sorted(found.outcomes.items())),
        "server_errors": found.server_errors,
        "control_is_identical": same,
        "idle_afterwards": idle,
    }


def main() -> None:
    """Parse, fuzz, print, exit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("-n", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--key", default="")
    parser.add_argument("--json", action="store_true")
    found = asyncio.run(fuzz(parser.parse_args()))
    print(json.dumps(found, indent=1, ensure_ascii=True))
    sound = (
        found["control_is_identical"] and found["idle_afterwards"] and not found["server_errors"]
    )
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
