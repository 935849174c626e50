"""The simulator's timeline, played back: recorded durations and a stepped table of outcomes give it exactly."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from headway.policies.batching.splitfuse import Splitfuse
from headway.testing import Setup, StepTimes, run_sim, small_workload
from headway.testing.policy_refs import PolicyRef
from headway.timing import Recorded, Recorder

TOYS = Path(__file__).parents[1] / "conformance" / "toys"


@pytest.mark.parametrize(
    "batching",
    [
        "sarathi",
        "prefill_first",
        partial(Splitfuse, 512),  # a recording predicts nothing
        TOYS / "overlap.py",
        TOYS / "speculative.py",
        TOYS / "half_layers.py",
        TOYS / "layer_interrupt.py",
    ],
    ids=str,
)
def test_scripted_executor_repeats_the_simulators_timeline(batching: PolicyRef) -> None:
    workload = small_workload(5, 40, 10.0, abort_share=0.1, prefixes=True)
    recording = Recorder(StepTimes())
    setup = Setup(batching, memory="swap", blocks=170, leap=False, timing=recording)
    timed = run_sim(workload, setup)
    playback = Recorded(recording.steps_ns, recording.transfers_ns, layers=recording.layers)
    scripted = run_sim(
        workload, Setup(batching, memory="swap", blocks=170, leap=False, timing=playback)
    )
    assert timed.log.tokens == scripted.log.tokens
    assert timed.log.ends_ns == scripted.log.ends_ns
    assert not playback.left
    assert len(timed.log.ends) == len(tuple(workload.offers()))
