"""The simulator's timeline, played back: recorded durations and a stepped table of outcomes give it exactly."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.testing import Setup, StepTimes, run_sim, small_workload
from headway.timing import Recorded, Recorder

TOYS = Path(__file__).parents[1] / "conformance" / "toys"


class Playback(Recorded):
    """Recorded durations, and a model's predictions."""

    def chunk_time_ns(self, tokens: int, context_tokens: int) -> int:
        return StepTimes().chunk_time_ns(tokens, context_tokens)


class Recording(Recorder):
    def chunk_time_ns(self, tokens: int, context_tokens: int) -> int:
        return StepTimes().chunk_time_ns(tokens, context_tokens)


@pytest.mark.parametrize(
    "batching",
    [
        "sarathi",
        "prefill_first",
        "splitfuse",
        TOYS / "overlap.py",
        TOYS / "speculative.py",
        TOYS / "half_layers.py",
        TOYS / "layer_interrupt.py",
    ],
    ids=str,
)
def test_scripted_executor_repeats_the_simulators_timeline(batching: str | Path) -> None:
    workload = small_workload(5, 40, 10.0, abort_share=0.1, prefixes=True)
    recording = Recording(StepTimes())
    setup = Setup(batching, memory="swap", blocks=170, leap=False, timing=recording)
    timed = run_sim(workload, setup)
    playback = Playback(recording.steps_ns, recording.transfers_ns, layers=recording.layers)
    scripted = run_sim(
        workload, Setup(batching, memory="swap", blocks=170, leap=False, timing=playback)
    )
    assert timed.log.tokens == scripted.log.tokens
    assert timed.log.ends_ns == scripted.log.ends_ns
    assert not playback.left
    assert len(timed.log.ends) == len(tuple(workload.offers()))
