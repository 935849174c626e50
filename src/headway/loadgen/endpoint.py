"""Whom to ask: an address, a model and the manners of one OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from headway.core import NS_PER_MS, Request
from headway.errors import HeadwayError, MissingExtraError, OptionError
from headway.loadgen.wire import sentence_of

try:
    import aiohttp
except ImportError as error:  # pragma: no cover - the extra is installed where this is tested
    raise MissingExtraError.of("headway bench", "aiohttp", "bench") from error

COMPLETIONS, CHAT = "completions", "chat"
PATHS = {COMPLETIONS: "/v1/completions", CHAT: "/v1/chat/completions"}

_TENANT_HEADER = "x-gateway-inference-fairness-id"
_CLASS_HEADER = "x-gateway-inference-objective"
_CONNECT_S = 10.0


class EndpointError(HeadwayError):
    """The endpoint cannot be reached, or refuses what a run needs. The message says the next action."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint. `kind` is `completions` or `chat`; `extra` goes into every request body."""

    root: str  # scheme, host and port, without a path
    model: str
    kind: str = COMPLETIONS
    path: str = ""  # other than the kind's own
    api_key: str = ""
    slo_headers: bool = True  # tell the server who asks and what was promised
    timeout_s: float = 600.0  # of one request, from its sending
    extra: Mapping[str, object] = field(default_factory=dict)
    run_name: str = "bench"  # in front of the id that each request carries

    @property
    def url(self) -> str:
        """Where requests go."""
        return self.root + (self.path or PATHS[self.kind])

    def request_name(self, request: Request) -> str:
        """Under what name the server hears of it."""
        return f"{self.run_name}-{request.id}"

    def headers(self, request: Request) -> dict[str, str]:
        """What goes with one request: who asks, and what it was promised."""
        told = {"x-request-id": self.request_name(request)}
        if self.slo_headers:
            slo = request.slo
            if slo.ttft_ns is not None:
                told["x-slo-ttft-ms"] = f"{slo.ttft_ns / NS_PER_MS:.15g}"
            if slo.tpot_ns is not None:
                told["x-slo-tpot-ms"] = f"{slo.tpot_ns / NS_PER_MS:.15g}"
            if request.tenant:
                told[_TENANT_HEADER] = request.tenant
            if slo.name != "default":
                told[_CLASS_HEADER] = slo.name
        return told


def root_of(url: str) -> str:
    """Scheme, host and port (and a path in front of `/v1`) of any address people give.

    Raises:
        OptionError: not an HTTP address.
    """
    root = url if "://" in url else f"http://{url}"
    scheme, _, rest = root.partition("://")
    if scheme not in ("http", "https") or not rest.strip("/"):
        raise OptionError(f"{url!r} is no HTTP address: give one such as http://127.0.0.1:8000")
    root = root.rstrip("/")
    for path in (*PATHS.values(), "/v1"):
        root = root.removesuffix(path).rstrip("/")
    return root


def kind_of(endpoint: str) -> tuple[str, str]:
    """(kind, path) of `completions`, `chat` or a path such as `/v1/chat/completions`.

    Raises:
        OptionError: neither.
    """
    if endpoint in PATHS:
        return endpoint, ""
    if endpoint.startswith("/") and endpoint.endswith("completions"):
        return (CHAT if endpoint.endswith("chat/completions") else COMPLETIONS), endpoint
    raise OptionError(
        f"--endpoint is {endpoint}: give completions, chat or a path that ends in completions"
    )


def open_session(api_key: str, *traces: aiohttp.TraceConfig) -> aiohttp.ClientSession:
    """A session that never makes a request wait for a connection of another. Call inside a loop."""
    bearer = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=3600, keepalive_timeout=60),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
        headers=bearer | {"Content-Type": "application/json", "Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=1 << 20,
        trace_configs=list(traces),
    )


class ModelCard(msgspec.Struct):
    """A model as `/v1/models` lists it; `vocabulary` under any name that servers use, 0 if unknown."""

    id: str
    vocabulary: int = 0


async def find_model(session: aiohttp.ClientSession, root: str, wanted: str | None) -> ModelCard:
    """Ask which model is served; `wanted` need not be listed (routers alias names).

    Raises:
        EndpointError: nobody answers, or no model is named and none is listed.
    """
    url = f"{root}/v1/models"
    try:
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=_CONNECT_S)) as response:
            body, status = await response.read(), response.status
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        why = str(error) or "no answer in time"
        raise EndpointError(
            f"cannot reach {root}: {why}: start the server, or check the address"
        ) from error
    cards = _cards(body) if status == 200 else []
    named = next((card for card in cards if card.id == wanted), None)
    if named is not None:
        return named
    if wanted is not None:
        return ModelCard(wanted, cards[0].vocabulary if len(cards) == 1 else 0)
    if not cards:
        said = sentence_of(body)
        raise EndpointError(f"{url} lists no model (HTTP {status}: {said}): name one with --model")
    return cards[0]


def _cards(body: bytes) -> list[ModelCard]:
    try:
        listed = msgspec.json.decode(body)["data"]
        return [ModelCard(str(one["id"]), _vocabulary(one)) for one in listed]
    except (msgspec.MsgspecError, KeyError, TypeError, UnicodeDecodeError):
        return []


def _vocabulary(card: Mapping[str, object]) -> int:
    """Headway's own name, vLLM's relatives', and llama.cpp's, which keeps it in `meta`."""
    meta = card.get("meta")
    for place in (card, meta if isinstance(meta, dict) else {}):
        for name in ("vocabulary", "vocab_size", "n_vocab"):
            size = place.get(name)
            if isinstance(size, int) and size > 0:
                return size
    return 0
