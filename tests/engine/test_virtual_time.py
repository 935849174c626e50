"""The same instance over the simulator's clock: times are the simulator's, tokens are the model's."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from headway.clocks import VirtualClock
from headway.core import NS_PER_S, Request, Sequence
from headway.core.protocols import ARRIVAL, Outcomes
from headway.engine.outcomes import TorchOutcomes
from headway.runtime import Instance, InstanceOptions, load_policy
from headway.sim import Lengths, Timed
from headway.testing import Log, StepTimes

BLOCKS, OUTPUT = 20, 64  # of which the four sequences together need 22


class CachedLog(Log):
    """Keeps how much of each prompt came from the prefix cache, too."""

    def __init__(self) -> None:
        super().__init__()
        self.cached: dict[int, int] = {}

    def on_end(
        self, request: Request, sequence: Sequence | None, outcome: str, now_ns: int
    ) -> None:
        super().on_end(request, sequence, outcome, now_ns)
        self.cached[request.id] = sequence.cached_tokens if sequence else 0


def run(
    batching: str, requests: list[Request], what: Outcomes, layers: int, blocks: int = BLOCKS
) -> tuple[CachedLog, Instance]:
    clock, log = VirtualClock(), CachedLog()
    policies = (
        load_policy("batching", batching, {} if batching != "sarathi" else {"token_budget": 16}),
        load_policy("ordering", "fcfs"),
        load_policy("memory", "recompute"),
    )
    executor = Timed(clock, StepTimes(layers=layers), what)
    instance = Instance(clock, executor, policies, InstanceOptions(blocks, leap=False), log)
    for request in requests:
        arrive: Any = partial(instance.submit, request)
        clock.call_at(request.arrival_ns, arrive, ARRIVAL, request.id)
    clock.run()
    return log, instance


@pytest.mark.parametrize("batching", ["sarathi", "prefill_first"])
def test_a_virtual_clock_around_the_engine_gives_the_simulators_timeline(
    tiny: Any, batching: str
) -> None:
    layers = tiny.model.config.layers
    requests = [
        Request(n, n * 3_000_000, len(ids), OUTPUT, prompt_ids=ids)
        for n, ids in enumerate(tiny.prompts)
    ]
    lengths = Lengths({request.id: OUTPUT for request in requests}, layers)
    simulated, _ = run(batching, requests, lengths, layers)
    model = TorchOutcomes(tiny.model, blocks=BLOCKS)
    computed, instance = run(batching, requests, model, layers)
    assert computed.tokens == simulated.tokens
    assert computed.ends_ns == simulated.ends_ns
    assert {n: computed.ids[n] for n in computed.ids} == dict(enumerate(tiny.answers))
    assert instance.pool.free == BLOCKS


@pytest.mark.slow
def test_alone_and_on_a_prefix_hit_the_real_shape_says_what_transformers_says(real: Any) -> None:
    """Each prompt by itself, and later all of them again, on the KV that the first round left behind."""
    layers, count, blocks = real.model.config.layers, len(real.prompts), 600
    requests = [
        Request(
            n + again * count,
            n * 60 * NS_PER_S if not again else (count + 1) * 60 * NS_PER_S,
            len(ids),
            OUTPUT,
            prompt_ids=ids,
            prefix=tuple((hash(ids[:end]), 16) for end in range(16, len(ids) + 1, 16)),
        )
        for again in (0, 1)
        for n, ids in enumerate(real.prompts)
    ]
    model = TorchOutcomes(real.model, blocks=blocks)
    log, instance = run("sarathi", requests, model, layers, blocks)
    assert [log.ids[n] for n in range(count)] == real.answers
    assert [log.ids[n + count] for n in range(count)] == real.answers
    assert all(log.cached[n + count] >= 16 for n in range(count))
    assert instance.pool.free == blocks
