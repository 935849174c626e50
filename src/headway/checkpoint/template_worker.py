"""The process in which chat templates render: `python -m headway.checkpoint.template_worker`, driven by pipes.

A sandbox refuses what is dangerous, but not what is endless: nested loops and long strings are plain Jinja.
Here memory has a limit, and whoever waits kills the process when time is up.

One message is eight bytes of length and JSON. The worker says hello; the first message to it brings the
template, every other one a conversation.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import jinja2
import msgspec
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

if sys.platform != "win32":
    import resource

LENGTH_BYTES = 8
HEADROOM_BYTES = (
    32 << 20
)  # of memory for a render, beside PER_BYTE for each byte of the conversation
PER_BYTE = 12  # JSON, text of up to 4 bytes a character, parts, the whole
REFUSED, BROKEN = "refused", "broken"  # the conversation is not accepted; the template is no good


class _Refused(jinja2.TemplateError):
    """The template called `raise_exception`."""


class _Generation(Extension):
    """`{% generation %}` marks assistant text for training; here its content is just rendered."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(Namespace):
    """`namespace(...)` without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        for name in dict(*args[1:], **kwargs):
            _refuse_private(name)
        Namespace.__init__(*args, **kwargs)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)


def _refuse_private(name: object) -> None:
    if str(name).startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace may not hold {name!r}")


def environment() -> ImmutableSandboxedEnvironment:
    """Build the environment that published templates are written for, as transformers has it."""
    built = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    built.filters["tojson"] = _tojson
    built.globals["raise_exception"] = _raise_exception
    built.globals["strftime_now"] = _strftime_now
    built.globals["namespace"] = _Namespace
    built.globals["dict"] = _dict
    return built


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own escapes HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> None:
    raise _Refused(message)


def _dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    """Make a dict; the type itself would offer more."""
    return dict(*args, **kwargs)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)  # noqa: DTZ005 - templates tell the model the local date


def serve(requests: BinaryIO, answers: BinaryIO, most_characters: int) -> None:
    """Answer until the other side hangs up."""
    render: Callable[..., str] | None = None
    at_first = _address_space()
    _answer(answers, b"{}")
    while len(head := requests.read(LENGTH_BYTES)) == LENGTH_BYTES:
        data = requests.read(int.from_bytes(head, "little"))
        _limit_memory(at_first + HEADROOM_BYTES + PER_BYTE * len(data))
        try:
            message = msgspec.json.decode(data)
            if render is None:
                render = environment().from_string(message["template"]).render
                answer = {"text": ""}
            else:
                text = render(**message)
                answer = {"text": text}
                if len(text) > most_characters:
                    answer = {
                        BROKEN: f"rendered {len(text)} characters, more than {most_characters}"
                    }
            packed = msgspec.json.encode(answer)
        except Exception as error:  # noqa: BLE001 - whatever a template raises goes back as an answer
            packed = msgspec.json.encode(_failure(error))
        _answer(answers, packed)


def _answer(answers: BinaryIO, packed: bytes) -> None:
    answers.write(len(packed).to_bytes(LENGTH_BYTES, "little") + packed)
    answers.flush()


def _failure(error: Exception) -> dict[str, str]:
    if isinstance(error, _Refused):
        return {REFUSED: str(error)[:500]}
    if isinstance(error, MemoryError):
        return {BROKEN: "needs more memory than a conversation can"}
    return {BROKEN: f"{type(error).__name__}: {error}"[:500].encode("utf-8", "replace").decode()}


def _address_space() -> int:
    """Bytes of address space in use; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    if sys.platform == "win32" or not statm.exists():
        return 0
    return int(statm.read_text(encoding="ascii").split()[0]) * resource.getpagesize()


def _limit_memory(most_bytes: int) -> None:
    """Limit address space, where the system can; elsewhere only time is limited."""
    if sys.platform != "linux":
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = most_bytes if hard == resource.RLIM_INFINITY else min(most_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's; it hangs up when it ends
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    serve(sys.stdin.buffer, sys.stdout.buffer, int(sys.argv[1]))


if __name__ == "__main__":
    _main()
