"""A dense batch of fixed size, KV planned for its peak, and a gain only where operators can overlap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, strategies as st

from headway.api import simulate
from headway.api.comparison import PolicyChoice
from headway.core.protocols import OVERLAP
from headway.errors import MissingCapabilityError
from headway.policies.batching.nanoflow import Nanoflow, _peak
from headway.testing import Setup, run_sim, small_workload
from headway.testing.replay import PlanData
from headway.timing import Affine
from headway.workload import AtOnce, Independent, LogNormal, Synthetic


def _offline(
    batching: PolicyChoice, *, count: int = 150, kv_blocks: int | None = None
) -> Mapping[str, Any]:
    shapes = Independent(LogNormal.of(900, 1024, most=4000), LogNormal.of(180, 220, most=1500))
    workload = Synthetic(AtOnce(), shapes, count, 0)
    return simulate(
        batching=batching,
        model="llama-2-70b",
        gpu="a100",
        tp=8,
        workload=workload,
        kv_blocks=kv_blocks,
    ).summary


def test_every_step_is_as_dense_as_it_can_be() -> None:
    setup = Setup(lambda: Nanoflow(batch_tokens=96, least_tokens=64), recorded=True)
    run = run_sim(small_workload(1, 40, 200.0), setup)
    run.conserved()
    sizes = []
    for call in run.recordings[0].calls:
        assert isinstance(call.decision, PlanData)
        sizes.append(sum(work[1] for work in call.decision.work.get("main", ())))
    assert max(sizes) == 96
    assert sizes.count(96) > len(sizes) // 4


def test_overlap_gives_throughput_and_a_lone_decode_gives_none() -> None:
    ours, plain = (_offline(Nanoflow(nano_batches=n)) for n in (2, 1))
    assert ours["total_token_throughput"] > 1.05 * plain["total_token_throughput"]
    lone, other = (
        simulate(
            batching=Nanoflow(nano_batches=n, least_tokens=1), requests=1, max_tokens=64,
            model="llama-2-70b", gpu="a100", tp=8,
        ).summary["output_throughput"]
        for n in (2, 1)
    )  # fmt: skip
    assert lone == pytest.approx(other, rel=0.02)


def test_predicted_peaks_spare_preemptions() -> None:
    ours = _offline("nanoflow", count=60, kv_blocks=1500)
    greedy = _offline("sarathi", count=60, kv_blocks=1500)
    assert ours["preemptions"] < 0.5 * greedy["preemptions"]


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 90)), min_size=1, max_size=8))
def test_the_peak_is_that_of_growing_step_by_step(held: list[tuple[int, int]]) -> None:
    seen = 0
    for time in range(1, 41):
        seen = max(seen, sum(tokens + time for left, tokens in held if left >= time))
    assert _peak(sorted((-left, tokens) for left, tokens in held)) == seen


def test_it_needs_overlap_unless_told_not_to_cut() -> None:
    assert OVERLAP in Nanoflow().needs
    with pytest.raises(MissingCapabilityError, match="overlap"):
        simulate(batching="nanoflow", timing=Affine(1_000_000, layers=32), requests=2)
    simulate(batching=Nanoflow(nano_batches=1), timing=Affine(1_000_000, layers=32), requests=2)


def test_leaping_changes_no_time_while_requests_wait_for_the_peak() -> None:
    workload = small_workload(
        0, 40, 12.0, streams=3, abort_share=0.2, prefixes=True, turns=1, tenants=2
    )
    runs = [run_sim(workload, Setup("nanoflow", leap=leap, blocks=130)) for leap in (True, False)]
    assert runs[0].log.tokens == runs[1].log.tokens
    assert runs[0].log.ends_ns == runs[1].log.ends_ns
