"""What `/metrics` says adds up, and cannot be made to grow."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings, strategies as st

parser = pytest.importorskip("prometheus_client.parser")

from headway.core import NS_PER_MS, Request, Sequence, Slo  # noqa: E402
from headway.metrics.targets import TARGETS  # noqa: E402
from headway.server.metrics import MOST_CLASSES, ServiceMetrics  # noqa: E402
from headway.server.stream import Load, ServedModel  # noqa: E402

MODEL = ServedModel("m", 0, 4096, 32_000, 256, 16, "sim")


def metrics_of(load: Load = Load(0, 0, 0.0)) -> ServiceMetrics:  # noqa: B008 - a constant
    return ServiceMetrics(MODEL, lambda: load)


def sums(metrics: ServiceMetrics) -> dict[str, float]:
    """Samples by name, summed over labels; buckets are left out."""
    found: dict[str, float] = defaultdict(float)
    for family in parser.text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            if not sample.name.endswith(("_bucket", "_created")):
                found[sample.name] += sample.value
    return found


def serve(
    metrics: ServiceMetrics, request: Request, gaps_ns: list[int], outcome: str, missed: int
) -> None:
    """Tell of a request as a gateway does: tokens one by one, then the end."""
    sequence = Sequence(request)
    now_ns = sequence.started_ns = request.arrival_ns
    for gap_ns in gaps_ns:
        now_ns += gap_ns
        metrics.on_tokens(sequence, now_ns, 1)
        metrics.on_step(1)
        if sequence.first_token_ns < 0:
            sequence.first_token_ns = now_ns
        sequence.last_token_ns = now_ns
        sequence.output_tokens += 1
    metrics.on_end(request, sequence, outcome, now_ns, missed)


REQUESTS = st.lists(
    st.tuples(
        st.integers(1, 500),  # prompt tokens
        st.lists(st.integers(0, 10**10), max_size=6),  # gaps
        st.sampled_from(["finished", "aborted", "failed: a bug", "shed", "rejected: full"]),
        st.booleans(),  # is anything promised?
        st.integers(0, 2 ** len(TARGETS) - 1),  # targets missed
    ),
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(REQUESTS)
def test_every_request_and_every_token_is_counted_once(
    asked: list[tuple[int, list[int], str, bool, int]],
) -> None:
    metrics = metrics_of()
    promised = tokens = began = finished = attained = 0
    for n, (prompt, gaps, outcome, slo, missed) in enumerate(asked):
        request = Request(n, 0, prompt, 100, slo=Slo("chat", ttft_ns=1) if slo else Slo())
        given_ns = [] if outcome.startswith("rejected") else gaps
        serve(metrics, request, given_ns, outcome, missed if outcome == "finished" else 0)
        tokens += len(given_ns)
        began += prompt * bool(given_ns)
        finished += not outcome.startswith("rejected")
        promised += slo
        attained += slo and outcome == "finished" and not missed
    said = sums(metrics)
    assert said["vllm:generation_tokens_total"] == said["vllm:iteration_tokens_total_sum"] == tokens
    assert said["vllm:prompt_tokens_total"] == began
    assert (
        said["vllm:request_success_total"]
        == said["vllm:e2e_request_latency_seconds_count"]
        == finished
    )
    firsts, others = (
        said[f"vllm:{name}_seconds_count"]
        for name in ("time_to_first_token", "inter_token_latency")
    )
    assert firsts + others == tokens
    assert said["headway:slo_attained_total"] == attained <= promised


def test_gauges_are_read_when_somebody_asks() -> None:
    said = sums(metrics_of(Load(3, 4, 0.5)))
    assert said["vllm:num_requests_running"] == 3
    assert said["vllm:num_requests_waiting"] == 4
    assert said["vllm:kv_cache_usage_perc"] == 0.5


def test_a_deadline_that_passed_counts_as_negative_slack() -> None:
    metrics = metrics_of()
    late = Request(1, 0, 10, 10, slo=Slo("chat", ttft_ns=5 * NS_PER_MS, tpot_ns=NS_PER_MS))
    serve(metrics, late, [7 * NS_PER_MS], "finished", 1)
    text = metrics.exposition().decode()
    counts = {
        bound: float(line.split()[-1])
        for line in text.splitlines()
        for bound in ("-0.03", "0.0", "+Inf")
        if line.startswith("headway:deadline_slack_seconds_bucket") and f'le="{bound}"' in line
    }
    assert counts == {"-0.03": 0, "0.0": 1, "+Inf": 1}


def test_names_that_clients_make_up_do_not_become_labels() -> None:
    metrics = metrics_of()
    for n in range(10 * MOST_CLASSES):
        slo = Slo(f"class-{n}", ttft_ns=1)
        request = Request(n, 0, 10, 10, slo=slo, tenant=f"tenant-{n}")
        serve(metrics, request, [1], "finished", 1)
    text = metrics.exposition().decode()
    assert "tenant-" not in text
    assert text.count("headway:slo_missed_total{") == MOST_CLASSES + 1
    assert sums(metrics)["headway:slo_missed_total"] == 10 * MOST_CLASSES
