"""Run logs of simulated instances, written by the host's own log."""

from __future__ import annotations

import random
from collections.abc import Sequence as Seq
from functools import partial
from pathlib import Path

from headway.clocks import VirtualClock
from headway.core import NS_PER_MS, Request, Sequence, Slo, Step, StepResult
from headway.core.protocols import ARRIVAL, TimingModel
from headway.host.logged_executor import HostLog, LoggedExecutor, LoggedSink
from headway.records import Opened
from headway.runtime import Instance, InstanceOptions, load_policy
from headway.sim import Lengths, Timed

SLO = Slo(ttft_ns=60 * NS_PER_MS, tpot_ns=12 * NS_PER_MS)


class Ear:
    """Implements `Sink`: keeps token times and ends."""

    def __init__(self) -> None:
        self.times: dict[int, list[int]] = {}
        self.outcomes: dict[int, str] = {}

    def on_tokens(self, step: Step, result: StepResult) -> None:
        for work, done in zip(step.work, result.done, strict=True):
            if done.emitted:
                self.times.setdefault(work.sequence.id, []).extend(
                    [result.ends_ns[0]] * done.emitted
                )

    def on_end(
        self, request: Request, sequence: Sequence | None, outcome: str, now_ns: int
    ) -> None:
        self.outcomes[request.id] = outcome


def some_requests(
    count: int, *, seed: int = 0, gap_ms: float = 25.0, prefixes: bool = False
) -> list[tuple[Request, int]]:
    """Requests with their true output lengths."""
    rng, now_ns, made = random.Random(seed), 0, []
    for n in range(count):
        now_ns += round(rng.expovariate(1 / gap_ms) * NS_PER_MS)
        prompt, output = rng.randint(1, 700), rng.randint(1, 90)
        shared = (rng.randint(1, 3), prompt // 32 * 16)  # half of the prompt, of one of three
        prefix = (shared,) if shared[1] and prefixes else ()
        made.append((Request(n, now_ns, prompt, 200, SLO, prefix=prefix), output))
    return made


def write_log(
    path: Path,
    timing: TimingModel,
    requests: Seq[tuple[Request, int]],
    *,
    batching: str = "sarathi",
    ordering: str = "fcfs",
    options: dict[str, str] | None = None,
    blocks: int = 400,
    delay_ns: int = 0,
    aborts: dict[int, int] | None = None,
    model: str = "gemma-3-270m",
    device: str = "cpu",
) -> Ear:
    """Run one instance in virtual time, logged; `delay_ns` after its arrival a request reaches it."""
    clock, ear = VirtualClock(), Ear()
    lengths = Lengths({}, timing.layers)
    policies = {"batching": batching, "ordering": ordering, "memory": "recompute"}
    opened = Opened(model, device, "fp32", timing.layers, blocks, 16, policies, options or {})
    log = HostLog(path, opened, clock)
    mine = {key.partition(".")[2]: value for key, value in (options or {}).items()}
    made = (
        load_policy("batching", batching, mine),
        load_policy("ordering", ordering, {}),
        load_policy("memory", "recompute", {}),
    )
    executor = LoggedExecutor(Timed(clock, timing, lengths), log)
    limits = InstanceOptions(blocks, 16, leap=False)
    instance = Instance(clock, executor, made, limits, LoggedSink(ear, log), timing)

    def submit(request: Request, output: int) -> None:
        lengths.output_tokens[request.id] = output
        if instance.submit(request) is None:
            log.submitted(request, clock.now_ns())

    for request, output in requests:
        entered_ns = request.arrival_ns + delay_ns
        clock.call_at(entered_ns, partial(submit, request, output), ARRIVAL, request.id)
    for request_id, time_ns in (aborts or {}).items():
        clock.call_at(time_ns, partial(instance.abort, request_id))
    clock.run()
    log.close()
    assert instance.stopped is None
    return ear
