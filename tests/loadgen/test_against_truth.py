"""Real runs against a real server that wrote down when it really sent what."""

import socket
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from headway.core import NO_SLO, NS_PER_MS, NS_PER_S, Slo
from headway.loadgen import BenchPlan, Endpoint, EndpointError, Measured, bench
from headway.workload import ClosedLoop, Fixed, Independent, Poisson, Synthetic, Tenants
from headway.workload.arrivals import Arrivals, AtOnce

CONFIG = {"request_rate": None, "burstiness": 1.0, "max_concurrency": None}


def synthetic(
    requests: int,
    *,
    arrivals: Arrivals = AtOnce(),  # noqa: B008 - a value
    prompt: int = 20,
    output: int = 5,
    slo: Slo = NO_SLO,
) -> Synthetic:
    shapes = Independent(Fixed(prompt), Fixed(output))
    return Synthetic(arrivals, shapes, requests=requests, slo=slo)


def run(url: str, workload: Any, kind: str = "completions", **more: Any) -> Measured:
    timeout_s = more.pop("timeout_s", 30.0)
    endpoint = Endpoint(url, "", kind=kind, timeout_s=timeout_s)
    return bench(BenchPlan(endpoint, workload, config=CONFIG, **more))


@pytest.mark.slow
def test_latencies_are_those_that_the_server_sent(mock_server: Any) -> None:
    server = mock_server("--ttft-ms", "500", "--itl-ms", "20")

    measured = run(server.url, synthetic(20, arrivals=Poisson(20), output=12))

    sent = {entry["id"]: entry["sent_ns"] for entry in server.log()[1:]}
    due = {f"bench-0-{call.request.id}": call.request.arrival_ns for call in measured.calls}
    ttfts = [times[0] - measured.origin_ns - due[name] for name, times in sent.items()]
    ends = [times[-1] - measured.origin_ns - due[name] for name, times in sent.items()]
    tpots = [(times[-1] - times[0]) / (len(times) - 1) for times in sent.values()]
    for key, truth in (("ttft", ttfts), ("e2el", ends), ("tpot", tpots), ("itl", tpots)):
        # Medians: on a busy machine, a scheduler may keep a few events from their reader for long.
        told_ms = measured.summary[f"median_{key}_ms"]
        assert told_ms * NS_PER_MS == pytest.approx(np.median(truth), rel=0.03)
    assert measured.summary["completed"] == 20
    assert measured.lengths["prompt_achieved"] == measured.lengths["output_achieved"] == 1


def test_a_limit_of_concurrency_hides_nothing(mock_server: Any) -> None:
    """All are due at once and served one by one: the mean wait is that of a queue, (n + 1) / 2 services."""
    server = mock_server("--ttft-ms", "20", "--itl-ms", "0")

    measured = run(server.url, synthetic(9, output=1), limit=1)

    spans = sorted((entry["received_ns"], entry["sent_ns"][-1]) for entry in server.log()[1:])
    assert all(later[0] >= earlier[1] for earlier, later in pairwise(spans))
    sending = measured.document()["from_send"]["mean_e2el_ms"]
    assert measured.summary["mean_e2el_ms"] > 4 * sending
    assert measured.generator["held_max_ms"] > 7 * 20


def test_users_of_a_closed_loop_wait_for_their_answers(mock_server: Any) -> None:
    server = mock_server("--ttft-ms", "15", "--itl-ms", "5")

    measured = run(server.url, ClosedLoop(synthetic(100, output=3), 3, 12), closed=True)

    assert measured.summary["completed"] == 12
    assert max(measured.curves["in_flight"]["requests"]) == 3
    events = [(entry["received_ns"], 1) for entry in server.log()[1:]]
    events += [(entry["sent_ns"][-1], -1) for entry in server.log()[1:]]
    levels = np.cumsum([change for _, change in sorted(events)])
    assert levels.max() == 3


def test_whoever_got_no_answer_counts_as_missed(mock_server: Any) -> None:
    server = mock_server(
        "--ttft-ms", "5", "--itl-ms", "5", "--reject-every", "4", "--break-every", "3"
    )
    slo = Slo(ttft_ns=10 * NS_PER_S)

    measured = run(server.url, synthetic(11, slo=slo))

    # The warm-up was the first that the server saw: the 4th, 8th and 12th were turned away, and the
    # 3rd, 6th and 9th cut.
    outcomes = measured.summary["outcomes"]
    assert (outcomes["rejected"], outcomes["failed"], outcomes["finished"]) == (3, 3, 5)
    assert measured.summary["slo_attainment"] == pytest.approx(5 / 11, abs=1e-6)
    assert any("429" in note and "the queue is full" in note for note in measured.notes)


def test_a_request_that_takes_too_long_is_a_timeout(mock_server: Any) -> None:
    server = mock_server("--ttft-ms", "5000")
    measured = run(server.url, synthetic(2), timeout_s=0.2, warmup=0)
    assert measured.summary["outcomes"]["timeout"] == 2
    assert measured.summary["slo_attainment"] == 0
    assert measured.summary["mean_ttft_ms"] is None


def test_tokens_that_come_together_have_no_gap(mock_server: Any) -> None:
    server = mock_server("--ttft-ms", "5", "--itl-ms", "20", "--tokens-per-event", "3")

    measured = run(server.url, synthetic(4, output=9))

    assert measured.summary["total_output_tokens"] == 36
    assert measured.lengths["tokens_per_event"] == 3
    histogram = measured.recorder.itl()
    assert histogram is not None
    assert histogram.count == 4 * (9 - 1)
    assert histogram.quantiles_ns([0.7])[0] == 0  # 6 of 8 gaps lie within events
    tpots = [(call.last_ns - call.first_ns) / 8 / NS_PER_MS for call in measured.calls]
    assert measured.summary["mean_tpot_ms"] == pytest.approx(np.mean(tpots))


def test_without_usage_events_count_as_tokens_and_the_report_says_so(mock_server: Any) -> None:
    server = mock_server("--ttft-ms", "5", "--itl-ms", "2", "--no-usage")
    measured = run(server.url, synthetic(3))
    assert measured.summary["total_output_tokens"] == 15
    assert measured.lengths["without_usage"] == 3
    assert any("without usage" in note for note in measured.notes)


@pytest.mark.parametrize("tokenizes", [True, False])
def test_chat_prompts_have_the_lengths_that_were_asked(
    mock_server: Any, *, tokenizes: bool
) -> None:
    server = mock_server("--ttft-ms", "2", "--itl-ms", "2", *["--tokenizes"][: int(tokenizes)])

    measured = run(server.url, synthetic(3, prompt=114), kind="chat")

    # Where the server counts two tokens a word (and 7 for its template), half as many words are due.
    words = len(server.log()[-1]["prompt"][0]["content"].split())
    assert words == ((114 - 14) / 2 if tokenizes else 114 - 7)
    assert measured.summary["completed"] == 3
    assert (
        measured.summary["total_output_tokens"] == 15
    )  # the chunk that names the role is no token


def test_the_server_hears_who_asks_and_what_was_promised(mock_server: Any) -> None:
    server = mock_server("--ttft-ms", "2", "--itl-ms", "2")
    slo = Slo("chat", ttft_ns=300 * NS_PER_MS, tpot_ns=25_500_000)
    workload = Tenants(synthetic(4, slo=slo), {"acme": 1.0})

    measured = run(server.url, workload)

    headers = {name.lower(): value for name, value in server.log()[-1]["headers"].items()}
    assert headers["x-slo-ttft-ms"] == "300"
    assert headers["x-slo-tpot-ms"] == "25.5"
    assert headers["x-gateway-inference-fairness-id"] == "acme"
    assert headers["x-gateway-inference-objective"] == "chat"
    assert set(measured.summary["by_tenant"]) == {"acme"}
    assert measured.server["running"]


def test_prompts_fit_the_vocabulary_that_the_server_states(mock_server: Any) -> None:
    server = mock_server("--ttft-ms", "2", "--itl-ms", "2", "--vocabulary", "256")
    run(server.url, synthetic(3, prompt=400))
    assert all(0 <= token < 256 for entry in server.log() for token in entry["prompt"])


def test_warm_ups_are_not_counted_and_prompts_are_new_each_run(mock_server: Any) -> None:
    server = mock_server("--ttft-ms", "2", "--itl-ms", "2")
    for salt in (1, 2):
        measured = run(server.url, synthetic(3), warmup=2, salt=salt)
        assert measured.summary["offered"] == 3
    prompts = {tuple(entry["prompt"]) for entry in server.log()}
    assert len(server.log()) == len(prompts) == 10


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(EndpointError, match=f"cannot reach http://127.0.0.1:{port}"):
        run(f"http://127.0.0.1:{port}", synthetic(1))


def test_a_first_request_that_fails_stops_the_run(mock_server: Any) -> None:
    server = mock_server("--break-every", "1", "--ttft-ms", "2")
    with pytest.raises(EndpointError, match=r"warm-up request 1 .*: the stream broke off"):
        run(server.url, synthetic(1))


def test_a_server_that_is_never_ready_is_named(mock_server: Any) -> None:
    server = mock_server("--reject-every", "1")
    with pytest.raises(EndpointError, match="HTTP 429: the queue is full"):
        run(server.url, synthetic(1), ready_s=0.05)
    assert run(server.url, synthetic(2), warmup=0).summary["outcomes"]["rejected"] == 2
