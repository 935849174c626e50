"""Keys are wanted everywhere but where it says otherwise, however a path or a header is spelt."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from starlette.routing import Route

from headway.server.settings import Settings

from .conftest import Serve, Served

KEYS = ("sk-one", "sk-two-é")
OPEN = {"/livez", "/readyz", "/health"}
VICTIM = "/v1/models"


@pytest.fixture(scope="module")
def locked(serve: Serve) -> Iterator[Served]:
    with serve(settings=Settings(api_keys=KEYS)) as running:
        yield running


def raw(served: Served, target: str, *headers: bytes) -> tuple[int, bytes]:
    """Status and body of a GET, with the target and headers exactly as given."""
    lines = [
        b"GET %s HTTP/1.1" % target.encode("latin-1"),
        b"connection: close",
        *headers,
        b"",
        b"",
    ]
    with served.connect() as peer:
        peer.sendall(b"\r\n".join(lines))
        reply = b""
        while data := peer.recv(65536):
            reply += data
    head, _, body = reply.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def test_every_route_wants_a_key_but_for_the_open_ones(locked: Served) -> None:
    routes = [route for route in locked.app.routes if isinstance(route, Route)]
    assert len(routes) == len(locked.app.routes)
    for path in {route.path.replace("{name:path}", "parrot") for route in routes} - OPEN:
        for reply in (locked.get(path), locked.post(path, {})):
            assert reply.status_code == 401, path
            assert reply.json()["error"]["code"] == "invalid_api_key"
    assert [locked.get(path).status_code for path in sorted(OPEN)] == [200] * 3


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer sk-one", 200),
        ("bearer sk-one", 200),
        ("Bearer sk-two-é", 200),
        ("Bearer sk-on", 401),
        ("Bearer sk-one2", 401),
        ("Bearer", 401),
        ("sk-one", 401),
        ("Basic sk-one", 401),
        ("Bearer sk-one sk-two-é", 401),
        ("", 401),
    ],
)
def test_only_a_whole_key_opens(locked: Served, header: str, status: int) -> None:
    line = b"authorization: " + header.encode()
    assert raw(locked, VICTIM, b"host: a", line)[0] == status
    assert raw(locked, f"{VICTIM}?api_key=sk-one&key=sk-one", b"host: a")[0] == 401
    assert raw(locked, VICTIM, b"host: a", line, b"authorization: Bearer x")[0] == 401


def test_metrics_can_be_opened(serve: Serve) -> None:
    with serve(settings=Settings(api_keys=KEYS, open_metrics=True)) as served:
        assert served.get("/metrics").text == "some 1\n"
        assert served.get("/load").status_code == 401


def test_no_spelling_of_path_or_host_gets_around_the_key(locked: Served) -> None:
    """Mutations of closed paths: none may reach a route, whatever it is answered."""
    draw = random.Random(11)
    bits = [
        "/",
        "//",
        ".",
        "..",
        "%2f",
        "%2e",
        ";",
        "?",
        "#",
        "health",
        "livez",
        "readyz",
        "v1",
        "models",
    ]
    bits += ["%00", "%68ealth", "\\", "@", "http://a/health", "*", "VERSION", "version", "load"]
    hosts = ["a", "a/health?", "a/livez", "livez", "@/health", "127.0.0.1", ""]
    for _ in range(300):
        target = "".join(draw.choices(bits, k=draw.randrange(1, 6)))
        status, body = raw(locked, target, b"host: " + draw.choice(hosts).encode())
        assert status in {400, 401} or body in {b'{"status":"ready"}', b'{"status":"alive"}'}, (
            target
        )
        assert b"parrot" not in body
