"""Listening: an HTTP server inside our own event loop; signals and the loop stay ours."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable, Iterator

from starlette.types import ASGIApp
from uvicorn import Config, Server

from headway.errors import OptionError
from headway.server.guarded_connection import ConnectionLimits, GuardedConnection

BACKLOG = 2048


class _Server(Server):
    """uvicorn without hands on our signals; says when it listens."""

    listening: Callable[[], None] = staticmethod(lambda: None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def listen(
    app: ASGIApp,
    host: str,
    port: int,
    *,
    shutdown: asyncio.Event,
    on_ready: Callable[[int], None] = lambda port: None,
    grace_s: float = 5.0,
    limits: ConnectionLimits | None = None,
) -> None:
    """Serve until `shutdown` is set; then take no connections and give those in use `grace_s` to end.

    Port 0 takes a free one; `on_ready` gets the port once connections are taken. The caller makes sure that
    streams end in time: what is left after the grace is cut off.

    Raises:
        OptionError: the address cannot be listened on.
    """
    limits = limits or ConnectionLimits()
    sockets = _bind(host, port)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.ERROR)
    config = Config(
        app,
        http=type("Connection", (GuardedConnection,), {"limits": limits}),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=limits.keep_alive_s,  # type: ignore[arg-type]
        timeout_graceful_shutdown=grace_s,  # type: ignore[arg-type]
        h11_max_incomplete_event_size=limits.most_header_bytes,
    )
    server = _Server(config)
    server.listening = lambda: on_ready(sockets[0].getsockname()[1])
    serving = asyncio.ensure_future(server.serve(sockets))
    ending = asyncio.ensure_future(_end(server, shutdown))
    try:
        await serving
    finally:
        ending.cancel()
        server.should_exit = server.force_exit = True
        await asyncio.gather(serving, ending, return_exceptions=True)
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        for listening in sockets:
            listening.close()


async def _end(server: Server, shutdown: asyncio.Event) -> None:
    await shutdown.wait()
    server.should_exit = True


def _bind(host: str, port: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listening = socket.socket(family, kind, protocol)
            sockets.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            chosen = sockets[0].getsockname()[1] if len(sockets) > 1 else port
            listening.bind((address[0], chosen, *address[2:]))
            listening.listen(BACKLOG)
            listening.settimeout(0)
    except (OSError, OverflowError) as error:
        for listening in sockets:
            listening.close()
        raise _cannot_listen(host, port, error) from error
    return sockets


def _cannot_listen(host: str, port: int, error: Exception) -> OptionError:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        said = f"port {port} of {host} is in use: choose another with --port"
    elif number == errno.EACCES:
        said = f"port {port} of {host} needs rights that this user does not have: choose one above 1023"
    elif isinstance(error, OverflowError):
        said = f"port {port} is not between 0 and 65535"
    else:
        reason = getattr(error, "strerror", None) or error
        said = f"cannot listen on {host} port {port} ({reason}): check --host"
    return OptionError(said)
