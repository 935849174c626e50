"""Clients that are slow, rude or gone: the connection ends, the work stops, and the others notice nothing."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from typing import Any

import pytest

from headway.errors import OptionError
from headway.server.guarded_connection import ConnectionLimits
from headway.server.listener import listen
from headway.server.settings import Settings

from .conftest import Parrot, Serve, Served

QUICK = ConnectionLimits(
    most_connections=8, most_header_bytes=4096, header_timeout_s=0.3, write_stall_s=0.3
)
FOREVER = {"prompt": " a b c", "max_tokens": 2000, "ignore_eos": True}


def request(body: Any, *headers: str, path: str = "/v1/completions") -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lengths = (
        []
        if any("content-length" in line for line in headers)
        else [f"content-length: {len(content)}"]
    )
    return (
        "\r\n".join([f"POST {path} HTTP/1.1", "host: a", *lengths, *headers, "", ""]).encode()
        + content
    )


def rest(peer: socket.socket) -> bytes:
    """Everything until the server closes."""
    reply = b""
    try:
        while data := peer.recv(65536):
            reply += data
    except ConnectionResetError:
        pass
    return reply


def status(reply: bytes) -> int:
    return int(reply.split()[1])


def is_fine(served: Served) -> bool:
    answer = served.post("/v1/completions", {"prompt": " a", "max_tokens": 3})
    return bool(answer.json()["choices"][0]["text"] == " a a")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 3])
def test_a_client_that_leaves_stops_its_work(serve: Serve, stream: bool, n: int) -> None:
    gateway = Parrot(step_s=0.01)
    with serve(gateway) as served:
        for moment in ("at once", "in the middle"):
            with served.connect() as peer:
                peer.sendall(request({**FOREVER, "stream": stream, "n": n}))
                served.until(lambda: gateway.load().running == n, "it runs")
                if stream and moment == "in the middle":
                    assert peer.recv(10)
                elif moment == "in the middle":
                    time.sleep(0.05)
            served.until_idle()
        assert gateway.aborted == 2 * n
        served.until(lambda: served.app.state.counts.cancelled == 2, "counted")
        assert is_fine(served)


def test_a_reader_that_falls_behind_is_cut_off_and_the_others_are_not(serve: Serve) -> None:
    gateway = Parrot()
    settings = Settings(most_unread_pieces=50)
    with serve(gateway, settings) as served:
        slow = served.connect()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        body = {**FOREVER, "stream": True, "logprobs": 20, "n": 20}  # more than the sockets hold
        slow.sendall(request(body))
        served.until(lambda: gateway.load().running > 0, "it runs")
        assert is_fine(served)
        served.until_idle()
        served.until(lambda: served.app.state.counts.cancelled == 1, "it was cut off")
        slow.close()


def test_a_full_socket_that_nobody_reads_is_closed(serve: Serve) -> None:
    gateway = Parrot()
    with serve(gateway, limits=QUICK) as served, served.connect() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(request({**FOREVER, "stream": True, "logprobs": 20, "n": 20}))
        served.until(lambda: served.app.state.counts.cancelled == 1, "it was cut off")
        served.until_idle()


@pytest.mark.parametrize("sent", [b"", b"POST /v1/comp", b"GET /livez HTTP/1.1\r\nx: y\r\n"])
def test_a_header_that_never_ends_is_not_waited_for(serve: Serve, sent: bytes) -> None:
    with serve(limits=QUICK) as served, served.connect() as peer:
        for byte in sent:  # slowly, as slowloris does
            peer.sendall(bytes([byte]))
        reply = rest(peer)
        assert status(reply) == 408 if sent else reply == b""
        with served.connect() as second:  # likewise the second header of a connection
            second.sendall(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n")
            assert status(second.recv(65536)) == 200
            second.sendall(b"GET /liv")
            assert status(rest(second)) == 408


def test_a_body_that_never_ends_is_not_waited_for(serve: Serve) -> None:
    with serve(settings=Settings(body_timeout_s=0.2)) as served:
        for sent in (
            request(b"{", "content-length: 9"),
            request(b"5\r\n{", "transfer-encoding: chunked", "content-length2: 1"),
        ):
            with served.connect() as peer:
                peer.sendall(sent)
                assert status(rest(peer)) in {400, 408}
        with served.connect() as peer:  # who leaves in the middle of the body leaves nothing
            peer.sendall(request(b"{", "content-length: 9"))
        served.until_idle()
        assert is_fine(served)


def test_a_body_is_not_read_past_its_limit(serve: Serve) -> None:
    with serve(settings=Settings(most_body_bytes=1000)) as served:
        announced = request(b"{", "content-length: 1001")
        absurd = request(b"{", "content-length: 99999999999999999")
        chunked = request(
            b"7d0\r\n" + b" " * 2000, "transfer-encoding: chunked", "content-lengthy: 1"
        )
        for sent in (announced, absurd, chunked):
            with served.connect() as peer:
                peer.sendall(sent)
                reply = rest(peer)
                assert status(reply) == 413
                assert b"connection: close" in reply.lower()
        assert is_fine(served)


def test_two_lengths_are_refused(served: Served) -> None:
    with served.connect() as peer:
        peer.sendall(
            request(b"2\r\n{}\r\n0\r\n\r\n", "content-length: 2", "transfer-encoding: chunked")
        )
        assert status(rest(peer)) == 400


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"\x16\x03\x01 hello\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 9000 + b"\r\n\r\n", 431),
        (b"GET /" + b"y" * 9000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 431),
        (b"GET /livez HTTP/1.1\r\nhost: a\r\n" + b"a: b\r\n" * 2000 + b"\r\n", 431),
        (b"POST /tokenize HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),
    ],
)
def test_what_is_no_http_hears_so_in_json(serve: Serve, sent: bytes, expected: int) -> None:
    with serve(limits=QUICK) as served, served.connect() as peer:
        peer.sendall(sent)
        reply = rest(peer)
        assert status(reply) == expected
        assert json.loads(reply.partition(b"\r\n\r\n")[2])["error"]["message"]
        assert is_fine(served)


def test_connections_past_the_cap_are_turned_away(serve: Serve) -> None:
    with serve(limits=ConnectionLimits(most_connections=8)) as served:
        held = [served.connect() for _ in range(8)]
        served.call(lambda: None)
        with served.connect() as late:
            reply = rest(late)
        assert status(reply) == 503
        assert b"retry-after: 1" in reply
        for peer in held:
            peer.close()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with served.connect() as peer:
                peer.sendall(b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                if status(rest(peer)) == 200:
                    return
        pytest.fail("the cap outlives the connections")


def test_pipelined_calls_are_answered_in_order(served: Served) -> None:
    with served.connect() as peer:
        first = request({"prompt": " a", "max_tokens": 2, "stream": True})
        second = request({"prompt": " b", "max_tokens": 2}, "connection: close")
        peer.sendall(first + second)
        reply = rest(peer)
        assert reply.count(b"HTTP/1.1 200") == 2
        assert reply.index(b"[DONE]") < reply.index(b'" b')


def test_a_port_in_use_is_one_sentence(served: Served) -> None:
    async def again(host: str, port: int) -> None:
        await listen(served.app, host, port, shutdown=asyncio.Event())

    with pytest.raises(OptionError, match=f"port {served.port} of 127.0.0.1 is in use: choose"):
        asyncio.run(again("127.0.0.1", served.port))
    with pytest.raises(OptionError, match="check --host"):
        asyncio.run(again("no-such-host.invalid", 0))
    with pytest.raises(OptionError, match="65535"):
        asyncio.run(again("127.0.0.1", 70_000))


def test_shutdown_lets_a_stream_in_flight_end(serve: Serve) -> None:
    gateway = Parrot(step_s=0.01)
    replies: list[bytes] = []
    with serve(gateway) as served:
        peer = served.connect()
        peer.sendall(request({"prompt": " a b c", "max_tokens": 10, "stream": True}))
        served.until(lambda: gateway.load().running == 1, "it runs")
        reader = threading.Thread(target=lambda: replies.append(rest(peer)))
        reader.start()
    reader.join(20)
    peer.close()
    assert replies[0].endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
