"""The same instance over the simulator's clock: times are the simulator's, tokens are the model's."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from headway.clocks import VirtualClock
from headway.core import Request
from headway.core.protocols import ARRIVAL, Outcomes
from headway.engine.outcomes import TorchOutcomes
from headway.runtime import Instance, InstanceOptions, load_policy
from headway.sim import Lengths, Timed
from headway.testing import Log, StepTimes

BLOCKS, OUTPUT = 20, 64  # of which the four sequences together need 22


def run(
    batching: str, requests: list[Request], what: Outcomes, layers: int
) -> tuple[Log, Instance]:
    clock, log = VirtualClock(), Log()
    policies = (
        load_policy("batching", batching, {} if batching != "sarathi" else {"token_budget": 16}),
        load_policy("ordering", "fcfs"),
        load_policy("memory", "recompute"),
    )
    executor = Timed(clock, StepTimes(layers=layers), what)
    instance = Instance(clock, executor, policies, InstanceOptions(BLOCKS, leap=False), log)
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
