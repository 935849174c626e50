"""What `/metrics` says: vLLM's names and buckets, so that its dashboards and autoscalers work, and our own beside them.

Labels are bounded: the model's name, outcomes, SLO classes and targets; never a tenant, a request or a path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from headway.core.fleet import FINISHED_OK, REJECTED
from headway.core.request import NS_PER_S, Request
from headway.core.sequence import Sequence
from headway.metrics.targets import TARGETS
from headway.server.stream import Load, ServedModel

TTFT_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
GAP_S = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
)  # fmt: skip
REQUEST_S = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0,
    480.0, 960.0, 1920.0, 7680.0,
)  # fmt: skip
STEP_TOKENS = (1, 8, 16, 32, 64, 96, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
SLACK_S = (-10.0, -3.0, -1.0, -0.3, -0.1, -0.03, 0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
MOST_CLASSES = 32  # SLO classes with a label of their own; later ones are "other"
REASONS = {"stop": "stop", "length": "length", "aborted": "abort"}  # vLLM's; all else is "error"


def token_buckets(most: int) -> list[int]:
    """1, 2, 5, 10, 20, 50, … up to `most`."""
    found, power = [], 1
    while power <= most:
        found += [n * power for n in (1, 2, 5) if n * power <= most]
        power *= 10
    return found


class ServiceMetrics:
    """A registry of its own, and what the gateway tells it. `load` is asked when somebody reads."""

    def __init__(self, model: ServedModel, load: Callable[[], Load], *, engine: str = "0") -> None:
        self._registry = CollectorRegistry()
        self._labels = {"model_name": model.name, "engine": engine}
        self._classes: set[str] = set()
        self._load = load
        self._gauges()
        self._counters()
        self._times()
        self._sizes(model)
        info = Info("vllm:cache_config", "Size of the KV cache.", registry=self._registry)
        info.info({"num_gpu_blocks": str(model.blocks), "block_size": str(model.block_tokens)})

    def exposition(self) -> bytes:
        """Everything as text, in Prometheus' format 0.0.4."""
        return generate_latest(self._registry)

    # -- what there is -------------------------------------------------------------------------------------------

    def _gauges(self) -> None:
        for name, about, read in (
            ("num_requests_running", "Requests in steps.", lambda: self._load().running),
            ("num_requests_waiting", "Requests that wait.", lambda: self._load().waiting),
            ("kv_cache_usage_perc", "KV blocks in use, 0 to 1.", lambda: self._load().kv_usage),
        ):
            gauge = Gauge(f"vllm:{name}", about, tuple(self._labels), registry=self._registry)
            gauge.labels(**self._labels).set_function(read)

    def _counters(self) -> None:
        self.prompt_tokens = self._counter(
            "vllm:prompt_tokens", "Prompt tokens of requests that began."
        )
        self.generation_tokens = self._counter("vllm:generation_tokens", "Tokens generated.")
        self.preemptions = self._counter("vllm:num_preemptions", "Times a request lost its blocks.")
        self.cache_queries = self._counter("vllm:prefix_cache_queries", "Prompt tokens looked up.")
        self.cache_hits = self._counter("vllm:prefix_cache_hits", "Prompt tokens found cached.")
        self._success = self._many("vllm:request_success", "Requests ended.", "finished_reason")
        self._attained = self._many("headway:slo_attained", "Requests that met their SLO.", "slo")
        self._missed = self._many(
            "headway:slo_missed", "Promises broken: a target, or an outcome.", "slo", "target"
        )
        self._goodput = self._many(
            "headway:goodput_requests",
            "Requests that met their SLO, or finished without one.",
            "slo",
        )
        self._shed = self._many("headway:shed", "Requests not served.", "reason")

    def _times(self) -> None:
        self._ttft = self._histogram(
            "vllm:time_to_first_token_seconds", "Arrival to first token.", TTFT_S
        )
        self._gap = self._histogram(
            "vllm:inter_token_latency_seconds", "Between two tokens.", GAP_S
        )
        self._tpot = self._histogram(
            "vllm:request_time_per_output_token_seconds", "Mean gap of a request.", GAP_S
        )
        self._e2e = self._histogram(
            "vllm:e2e_request_latency_seconds", "Arrival to end.", REQUEST_S
        )
        self._queue = self._histogram(
            "vllm:request_queue_time_seconds", "Arrival to first step.", REQUEST_S
        )
        self._prefill = self._histogram(
            "vllm:request_prefill_time_seconds", "First step to first token.", REQUEST_S
        )
        self._decode = self._histogram(
            "vllm:request_decode_time_seconds", "First to last token.", REQUEST_S
        )
        self._inference = self._histogram(
            "vllm:request_inference_time_seconds", "First step to last token.", REQUEST_S
        )
        self._slack = self._histogram(
            "headway:deadline_slack_seconds",
            "Time left when a token came that had a due time; negative: late.",
            SLACK_S,
        )

    def _sizes(self, model: ServedModel) -> None:
        sizes = token_buckets(model.context_tokens)
        self._prompt = self._histogram(
            "vllm:request_prompt_tokens", "Prompt tokens of a request.", sizes
        )
        self._generation = self._histogram(
            "vllm:request_generation_tokens", "Tokens generated for a request.", sizes
        )
        self._max_tokens = self._histogram(
            "vllm:request_params_max_tokens", "What requests ask at most.", sizes
        )
        self._step = self._histogram(
            "vllm:iteration_tokens_total", "Tokens a step brought.", STEP_TOKENS
        )

    def _counter(self, name: str, about: str) -> Counter:
        made = Counter(name, about, tuple(self._labels), registry=self._registry)
        return made.labels(**self._labels)

    def _many(self, name: str, about: str, *labels: str) -> Callable[..., Counter]:
        made = Counter(name, about, (*self._labels, *labels), registry=self._registry)
        return lambda *values: made.labels(*self._labels.values(), *values)

    def _histogram(self, name: str, about: str, buckets: Iterable[float]) -> Histogram:
        made = Histogram(
            name, about, tuple(self._labels), buckets=tuple(buckets), registry=self._registry
        )
        return made.labels(**self._labels)

    # -- what the gateway tells ----------------------------------------------------------------------------------

    def on_step(self, tokens: int) -> None:
        """A step brought so many output tokens."""
        self.generation_tokens.inc(tokens)
        self._step.observe(tokens)

    def on_tokens(self, sequence: Sequence, end_ns: int, emitted: int) -> None:
        """A request's tokens came, before they are booked on its sequence."""
        request = sequence.request
        if sequence.first_token_ns < 0:
            self._ttft.observe((end_ns - request.arrival_ns) / NS_PER_S)
            self.prompt_tokens.inc(request.prompt_tokens)
            self.cache_queries.inc(request.prompt_tokens)
            self.cache_hits.inc(sequence.cached_tokens)
        else:
            self._gap.observe((end_ns - sequence.last_token_ns) / NS_PER_S)
        for _ in range(emitted - 1):
            self._gap.observe(0.0)
        due = request.due_ns(sequence.output_tokens)
        if due is not None:
            self._slack.observe((due - end_ns) / NS_PER_S)

    def on_end(
        self, request: Request, sequence: Sequence | None, outcome: str, now_ns: int, missed: int
    ) -> None:
        """A request ended, however; `missed` is the mask of targets of one that finished."""
        kind = outcome.partition(":")[0]
        name = self._class(request.slo.name)
        if kind == REJECTED:
            self.on_shed("admission")
        elif kind not in (FINISHED_OK, "aborted"):
            self.on_shed(kind)
        if kind != FINISHED_OK:
            if request.slo.promises and kind != "aborted":
                self._missed(name, kind).inc()
        elif request.slo.promises and missed:
            for bit, target in enumerate(TARGETS):
                if missed >> bit & 1:
                    self._missed(name, target).inc()
        else:
            self._goodput(name).inc()
            if request.slo.promises:
                self._attained(name).inc()
        if kind == REJECTED or sequence is None:
            return
        if kind == FINISHED_OK:
            kind = "length" if sequence.output_tokens >= request.max_tokens else "stop"
        self._success(REASONS.get(kind, "error")).inc()
        self.preemptions.inc(sequence.preemptions)
        self._prompt.observe(request.prompt_tokens)
        self._generation.observe(sequence.output_tokens)
        self._max_tokens.observe(request.max_tokens)
        self._time(request, sequence, now_ns)

    def on_shed(self, reason: str) -> None:
        """A request was not served; `reason` is one of few words: admission, draining, loading, failed, …."""
        self._shed(reason).inc()

    def _time(self, request: Request, sequence: Sequence, now_ns: int) -> None:
        self._e2e.observe(max(0, now_ns - request.arrival_ns) / NS_PER_S)
        started, first, last = sequence.started_ns, sequence.first_token_ns, sequence.last_token_ns
        if started < 0 or first < 0:
            return
        self._queue.observe(max(0, started - request.arrival_ns) / NS_PER_S)
        self._prefill.observe((first - started) / NS_PER_S)
        self._decode.observe((last - first) / NS_PER_S)
        self._inference.observe((last - started) / NS_PER_S)
        if sequence.output_tokens > 1:
            self._tpot.observe((last - first) / NS_PER_S / (sequence.output_tokens - 1))

    def _class(self, name: str) -> str:
        if name in self._classes or len(self._classes) < MOST_CLASSES:
            self._classes.add(name)
            return name
        return "other"
