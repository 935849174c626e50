"""Who goes first."""

from __future__ import annotations

from functools import partial

import pytest

from headway.core import NS_PER_MS, NS_PER_S, Request, Sequence, Slo, Stage
from headway.core.fleet import FINISHED_OK
from headway.policies.admission.stream_utilisation import StreamUtilisation
from headway.policies.batching.sarathi import Sarathi
from headway.policies.ordering.earliest_deadline import EarliestDeadline
from headway.policies.ordering.fcfs import Fcfs
from headway.policies.ordering.shortest_prompt import ShortestPrompt
from headway.testing import Run, Setup, SmallWorkload, run_live, run_sim, small_workload
from headway.testing.policy_refs import PolicyRef
from headway.workload import Offered


def first_tokens(ordering: PolicyRef, *requests: Request) -> list[int]:
    """Ids in the order of their first tokens; one runs at a time."""
    offers = tuple(Offered(request, request.max_tokens) for request in requests)
    run = run_sim(SmallWorkload(offers), Setup(partial(Sarathi, max_num_seqs=1), ordering))
    run.conserved()
    return sorted(run.log.times_ns, key=lambda i: run.log.times_ns[i][0])


def test_fcfs_by_arrival_then_id() -> None:
    requests = [
        Request(7, 0, 9, 2),
        Request(2, 5, 10, 2),
        Request(1, 5, 900, 2),
        Request(0, 9, 5, 2),
    ]
    assert first_tokens(Fcfs, *requests) == [7, 1, 2, 0]


def test_shortest_prompt_overtakes_a_longer_one_that_waits() -> None:
    requests = [Request(0, 0, 500, 2), Request(1, 1, 900, 2), Request(2, 2, 100, 2)]
    assert first_tokens(ShortestPrompt, *requests) == [0, 2, 1]


def test_earliest_deadline_before_later_ones_and_before_no_promise() -> None:
    requests = [
        Request(0, 0, 100, 2),
        Request(1, 1, 100, 2),
        Request(2, 2, 100, 2, Slo(ttft_ns=9 * NS_PER_S)),
        Request(3, 3, 100, 2, Slo(deadline_ns=NS_PER_S)),
    ]
    assert first_tokens(EarliestDeadline, *requests) == [0, 3, 2, 1]


def test_earliest_deadline_is_of_the_next_unit() -> None:
    sequence = Sequence(Request(0, 100, 10, 9, Slo(ttft_ns=50, tpot_ns=10)))
    keys = []
    for sequence.output_tokens in range(3):
        keys.append(EarliestDeadline().key(sequence)[1])
    assert keys == [150, 160, 170]


def chat_and_streams(seed: int, streams: int, units: int) -> SmallWorkload:
    """Streams of 25 units a second that arrive behind a chat load."""
    chat = small_workload(seed, 40, 6.0, prompt_tokens=(1500, 3000), output_tokens=(20, 60))
    periodic = (Stage(period_ns=40 * NS_PER_MS, unit_tokens=8),)
    offers = [
        Offered(
            Request(1000 + n, 2 * NS_PER_S + n * 4 * NS_PER_MS, 64, units, stages=periodic), units
        )
        for n in range(streams)
    ]
    return SmallWorkload((*chat.requests, *offers))


def late(run: Run, request_id: int) -> list[bool]:
    """Of each unit of a stream: did it come after the next one's release?"""
    request = run.offered[request_id].request
    times_ns = run.log.times_ns[request_id]
    return [time_ns > (request.due_ns(unit) or 0) for unit, time_ns in enumerate(times_ns)]


@pytest.mark.slow
def test_earliest_deadline_is_late_less_often_for_streams_beside_chat() -> None:
    lates: dict[str, list[int]] = {"fcfs": [], "earliest_deadline": []}
    for seed in range(1, 5):
        for ordering, counts in lates.items():
            setup = Setup(partial(Sarathi, 256), ordering, blocks=4000, audited=False)
            run = run_sim(chat_and_streams(seed, 10, 60), setup)
            run.conserved()
            counts.append(sum(sum(late(run, 1000 + n)) for n in range(10)))
    assert all(e <= f for f, e in zip(*lates.values(), strict=True))
    assert sum(lates["earliest_deadline"]) < sum(lates["fcfs"])


@pytest.mark.slow
@pytest.mark.parametrize("world", ["virtual", "wall"])
def test_streams_beyond_the_utilisation_are_refused_and_the_rest_keep_their_rate(
    world: str,
) -> None:
    admission = partial(StreamUtilisation, 0.6)
    setup = Setup(partial(Sarathi, 1024), "earliest_deadline", admission=admission, blocks=8000)
    workload = SmallWorkload(chat_and_streams(1, 90, 40).requests[40:])  # without the chat
    simulated = world == "virtual"
    run = run_sim(workload, setup) if simulated else run_live(workload, setup, speedup=10.0)
    run.conserved()
    accepted = [i for i, outcome in run.log.ends.items() if outcome == FINISHED_OK]
    refused = [outcome for outcome in run.log.ends.values() if "lower the unit rate" in outcome]
    assert len(accepted) > 10
    assert len(refused) > 10
    assert len(accepted) + len(refused) == 90
    if simulated:
        lates = [late(run, i)[20:] for i in accepted]  # once all prompts are computed
        assert not any(map(any, lates))
