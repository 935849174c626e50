"""Policies that need every corner of the contract, twenty lines each, and what they are for."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from headway.core import NS_PER_MS, NS_PER_S, Request
from headway.core.plan import INTERRUPTED
from headway.testing import Run, Setup, SmallWorkload, StepTimes, check_batching, run_sim
from headway.testing.policy_refs import PolicyRef
from headway.workload import Offered

FOLDER = Path(__file__).parent / "toys"
TOYS = sorted(FOLDER.glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("toy", TOYS, ids=lambda path: path.stem)
def test_toy_conforms(toy: Path) -> None:
    check_batching(toy, seeds=[0])
    check_batching(toy, ordering="earliest_deadline", memory="swap", seeds=[1], live=False)


def simulate(batching: PolicyRef, *requests: Request) -> Run:
    offers = tuple(Offered(request, request.max_tokens) for request in requests)
    run = run_sim(SmallWorkload(offers), Setup(batching, step_tokens=16_384))
    run.conserved()
    return run


def gaps_ns(run: Run, request_id: int) -> list[int]:
    return [after - before for before, after in pairwise(run.log.times_ns[request_id])]


def test_a_decode_lane_keeps_its_share_beside_a_long_prefill() -> None:
    requests = [Request(n, 0, 100, 200) for n in range(8)]
    requests.append(Request(8, NS_PER_S, 16_000, 2))
    lanes, one = (simulate(p, *requests) for p in (FOLDER / "two_lanes.py", "prefill_first"))
    alone = sorted(gaps_ns(lanes, 0))[20]
    # Its context grows while it is measured: some per cent.
    assert max(gaps_ns(lanes, 0)[1:]) <= alone / 0.6 * 1.05
    assert max(gaps_ns(one, 0)) > 5 * max(gaps_ns(lanes, 0)[1:])


def test_an_interrupt_between_layers_lets_a_short_prompt_overtake_a_long_one() -> None:
    requests = [Request(0, 0, 16_000, 20), Request(1, 50 * NS_PER_MS, 200, 20)]
    cut, whole = (simulate(p, *requests) for p in (FOLDER / "layer_interrupt.py", "prefill_first"))
    ttft = [run.log.times_ns[1][0] - requests[1].arrival_ns for run in (cut, whole)]
    assert cut.log.interrupted == 1
    layer_ns = StepTimes().chunk_time_ns(16_000, 0) / 8
    assert ttft[0] <= layer_ns + StepTimes().chunk_time_ns(200, 0) + 1
    assert ttft[0] * 4 < ttft[1]
    (first,) = [step for step in cut.log.steps if step.status == INTERRUPTED]
    assert first.ends_ns[0] > requests[1].arrival_ns


def test_layer_ranges_spread_a_chunk_over_two_steps() -> None:
    halves, whole = (
        simulate(p, Request(0, 0, 100, 40), Request(1, 200 * NS_PER_MS, 512, 2))
        for p in (FOLDER / "half_layers.py", "sarathi")
    )
    assert max(gaps_ns(halves, 0)) < 0.7 * max(gaps_ns(whole, 0))


def test_drafts_make_fewer_steps() -> None:
    drafted, plain = (
        simulate(p, Request(1, 0, 100, 200)) for p in (FOLDER / "speculative.py", "sarathi")
    )
    steps = [sum(len(step.ends_ns) for step in run.log.steps) for run in (drafted, plain)]
    assert steps[0] < 0.7 * steps[1]
    assert len(drafted.log.times_ns[1]) == 200


def test_overlap_has_two_steps_in_flight() -> None:
    run = simulate(FOLDER / "overlap.py", *(Request(n, 0, 100, 30) for n in range(3)))
    assert run.instances[0].overlapped
    assert len(run.log.times_ns[0]) == 30
