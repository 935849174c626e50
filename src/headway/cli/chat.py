"""`headway chat`: talk to a model, on a server that runs or on one that is started for it."""

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

if TYPE_CHECKING:
    from headway.cli.chat_client import Conversation

_HELP = "/reset forgets the conversation, /quit or Ctrl-D ends, Ctrl-C stops an answer"


def chat(
    model: Annotated[
        str | None,
        Argument(
            metavar="[MODEL]",
            show_default=False,
            help="What to serve without --url [default: embedded]; with it, the model's name there.",
        ),
    ] = None,
    *,
    url: Annotated[
        str | None,
        Option(metavar="URL", help="A server [default: one is started, and ended afterwards]."),
    ] = None,
    api_key: Annotated[
        str | None, Option(metavar="KEY", envvar="HEADWAY_API_KEY", help="The server's key.")
    ] = None,
    system: Annotated[
        str | None, Option(metavar="TEXT", help="Begin with this instruction.")
    ] = None,
    max_tokens: Annotated[int, Option(min=1, help="Longest answer, in tokens.")] = 256,
    temperature: Annotated[float, Option(min=0, max=2, help="0 always takes the likeliest.")] = 0.7,
) -> None:
    """Chat with a model; the answer comes as it is made."""
    from headway.cli.chat_client import Conversation

    with contextlib.ExitStack() as stack:
        if url is None:
            url = stack.enter_context(_server(model))
            model = None
        options = {"max_tokens": max_tokens, "temperature": temperature}
        talk = Conversation(url, "", api_key, options, system)
        talk.model = model or talk.first_model()
        if sys.stdin.isatty():
            print(f"{talk.model}: {_HELP}", file=sys.stderr)
        _talk(talk)


def _talk(talk: "Conversation") -> None:
    """Read a line, answer it, until there are no more."""
    from headway.cli.chat_client import ServerSaidNoError

    while True:
        try:
            text = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if text == "/quit":
            return
        if text == "/reset":
            talk.reset()
        elif text.startswith("/"):
            print(_HELP, file=sys.stderr)
        elif text:
            try:
                for piece in talk.say(text):
                    print(piece, end="", flush=True)
            except ServerSaidNoError as error:
                print(f"headway: {error}", file=sys.stderr)
            except KeyboardInterrupt:
                if not sys.stdin.isatty():
                    raise
            print(flush=True)


@contextlib.contextmanager
def _server(model: str | None) -> Iterator[str]:
    """Start a server on a free port of this machine, and end it in the end."""
    import signal
    import socket
    import subprocess
    import tempfile
    import time
    import urllib.error
    import urllib.request

    from headway.cli.output import progress_bar
    from headway.errors import HeadwayError

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "headway", "serve", *([model] if model else [])]
    log = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe that nobody reads would block it
    server = subprocess.Popen(  # noqa: S603 - our own interpreter
        [*command, "--port", str(port)],
        stderr=log,
        start_new_session=True,  # Ctrl-C is for the answer, not for the server
    )
    url = f"http://127.0.0.1:{port}"
    try:
        with progress_bar() as progress:
            began = time.monotonic()
            while True:
                if server.poll() is not None:
                    log.seek(0)
                    said = log.read().decode().strip()
                    raise HeadwayError(
                        said.rpartition("headway: ")[2] or "the server did not start"
                    )
                with contextlib.suppress(OSError, urllib.error.URLError):
                    if urllib.request.urlopen(f"{url}/readyz", timeout=2).status == 200:  # noqa: S310
                        break
                if progress:
                    progress("loading the model", time.monotonic() - began, None)
                time.sleep(0.1)
        yield url
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
        log.close()
