"""Renders one chat template in a process of its own, which is killed when it takes too long."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

import msgspec

from headway.checkpoint.template_worker import BROKEN, LENGTH_BYTES, REFUSED
from headway.errors import ModelFileError, OptionError

RENDER_S = 0.7
START_S = 20.0  # importing Jinja on a busy machine
MOST_CHARACTERS = 8 << 20
_PASSED_ON = ("PATH", "HOME", "TZ", "SYSTEMROOT", "VIRTUAL_ENV")
_PASSED_ON_PREFIXES = ("PYTHON", "LANG", "LC_")  # no tokens, keys and addresses


class TemplateProcess:
    """One template, one process; started at once, without waiting for it, and again after each kill.

    `render` may be called from several threads; they take turns.
    """

    def __init__(
        self, template: str, *, render_s: float = RENDER_S, most_characters: int = MOST_CHARACTERS
    ) -> None:
        self._template = msgspec.json.encode({"template": template})
        self._render_s, self._most = render_s, most_characters
        self._lock = threading.Lock()
        self._closed = False
        self._greeted = self._ready = False  # it said hello; it has compiled the template
        self._process = self._start()

    @property
    def pid(self) -> int:
        """Of the process that renders now."""
        return self._process.pid

    def render(self, context: Mapping[str, Any]) -> str:
        """Return the text.

        Raises:
            OptionError: the template refuses this conversation, and why.
            ModelFileError: the template is wrong, does what the sandbox forbids, or takes too much time,
                memory or room.
        """
        packed = _packed(context)
        with self._lock:
            if self._closed:
                raise ModelFileError("the chat template was closed: the server is ending")
            answer = self._attempt(packed) or self._attempt(packed)  # it may have died in between
        if answer is None:
            raise ModelFileError(
                "the process of the chat template ended twice: give another with --chat-template"
            )
        return _text(answer)

    def close(self) -> None:
        """End the process; harmless when called twice."""
        with self._lock:
            self._closed = True
            self._end()

    def _attempt(self, packed: bytes) -> bytes | None:
        """Return the answer; None if the process ended by itself, and a new one is there."""
        if not self._greeted:
            if self._ask(b"", START_S) is None:
                return None
            self._greeted = True
        if not self._ready:
            compiled = self._ask(self._template, self._render_s)
            if compiled is None:
                return None
            _text(compiled)
            self._ready = True
        return self._ask(packed, self._render_s)

    def _ask(self, packed: bytes, limit_s: float) -> bytes | None:
        """Write a message, unless it is empty, and read one; None, and a new process, if this one ended."""
        late = threading.Event()

        def kill() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(limit_s, kill)
        timer.daemon = True
        timer.start()
        try:
            data = self._exchange(packed)
        finally:
            timer.cancel()
        if data is None:
            self._restart()
            if late.is_set():
                raise ModelFileError(
                    f"the chat template was stopped after {limit_s} s: give another with --chat-template"
                )
        return data

    def _exchange(self, packed: bytes) -> bytes | None:
        assert self._process.stdin and self._process.stdout
        try:
            if packed:
                self._process.stdin.write(len(packed).to_bytes(LENGTH_BYTES, "little") + packed)
                self._process.stdin.flush()
            head = self._process.stdout.read(LENGTH_BYTES)
            size = int.from_bytes(head, "little")
            data = self._process.stdout.read(size)
        except OSError:
            return None
        return data if len(head) == LENGTH_BYTES and len(data) == size else None

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
        }
        return subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "headway.checkpoint.template_worker", str(self._most)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )

    def _restart(self) -> None:
        self._end()
        self._greeted = self._ready = False
        self._process = self._start()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # what was left to write has no reader any more


def _text(answer: bytes) -> str:
    said: dict[str, str] = msgspec.json.decode(answer)
    if REFUSED in said:
        raise OptionError(f"the model's chat template refuses these messages: {said[REFUSED]}")
    if BROKEN in said:
        raise ModelFileError(
            f"the chat template cannot render this ({said[BROKEN]}): give another with --chat-template"
        )
    return said["text"]


def _packed(context: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(context)
    except (TypeError, ValueError, RecursionError) as error:  # lone surrogates, depth
        raise OptionError(f"the messages are not JSON ({error}): send plain text") from error
