"""Fewest late: as many in time as any order could have, and earliest deadline where all can be."""

from __future__ import annotations

from functools import partial
from itertools import permutations
from random import Random

from hypothesis import given, settings, strategies as st

from headway.core import NS_PER_MS, NS_PER_S, Request, Sequence, Slo, Step, StepResult, Work
from headway.core.plan import DONE, WorkDone
from headway.policies.batching.sarathi import Sarathi
from headway.policies.ordering.earliest_deadline import EarliestDeadline
from headway.policies.ordering.fewest_late import IN_TIME, FewestLate
from headway.testing import Setup, SmallWorkload, run_sim
from headway.workload import Offered

PACE_NS = 1000  # what a token of a prompt takes

jobs = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 100)), min_size=1, max_size=6)
"""(prompt tokens, tokens' times until the first token is due)."""


def paced(policy: FewestLate) -> None:
    """Let it see one step of 100 prompt tokens."""
    sequence = Sequence(Request(1000, 0, 101, 2, Slo(ttft_ns=1)))
    policy.on_submit(sequence)
    step = Step(0, "main", [Work(sequence, 100)])
    sequence.computed_tokens = 100
    done = WorkDone(1, 100, 0)
    policy.on_step(step, StepResult(DONE, [done], [100 * PACE_NS]))
    policy.on_end(sequence, "aborted")


def arrived(policy: FewestLate, wanted: list[tuple[int, int]]) -> list[Sequence]:
    """All come at once, when time is 100 tokens."""
    sequences = []
    for number, (tokens, due) in enumerate(wanted):
        slo = Slo(ttft_ns=due * PACE_NS)
        sequences.append(Sequence(Request(number, 100 * PACE_NS, tokens, 2, slo)))
        policy.on_submit(sequences[-1])
    return sequences


def in_time(order: list[tuple[int, int]]) -> int:
    """How many of jobs done one after the other are."""
    at, kept = 0, 0
    for tokens, due in order:
        at += tokens
        kept += at <= due
    return kept


@settings(max_examples=150)
@given(jobs)
def test_no_order_has_more_in_time(wanted: list[tuple[int, int]]) -> None:
    policy = FewestLate()
    paced(policy)
    sequences = arrived(policy, wanted)
    order = [wanted[one.id] for one in sorted(sequences, key=policy.key)]
    assert in_time(order) == max(in_time(list(any_order)) for any_order in permutations(wanted))


@given(jobs)
def test_who_counts_as_in_time_is(wanted: list[tuple[int, int]]) -> None:
    policy = FewestLate()
    paced(policy)
    sequences = arrived(policy, wanted)
    chosen = sorted((one for one in sequences if policy.key(one)[0] == IN_TIME), key=policy.key)
    assert in_time([wanted[one.id] for one in chosen]) == len(chosen)


@given(jobs)
def test_the_order_is_by_deadline_where_all_can_be_in_time(wanted: list[tuple[int, int]]) -> None:
    needed = sum(tokens for tokens, _ in wanted)
    easy = [(tokens, needed + due) for tokens, due in wanted]
    policy, plain = FewestLate(), EarliestDeadline()
    paced(policy)
    sequences = arrived(policy, easy)
    assert sorted(sequences, key=policy.key) == sorted(sequences, key=plain.key)


def chat_behind_reports(seed: int, gap_ms: float) -> SmallWorkload:
    """Short prompts that are due soon and long ones that are due later, `gap_ms` apart on average."""
    rng, at_ns, offers = Random(seed), 0, []
    for number in range(120):
        at_ns += round(gap_ms * (0.5 + rng.random()) * NS_PER_MS)
        short = rng.random() < 0.7
        tokens = rng.randrange(50, 200) if short else rng.randrange(2000, 4000)
        slo = Slo(ttft_ns=(NS_PER_S // 5 if short else NS_PER_S))
        offers.append(Offered(Request(number, at_ns, tokens, 8, slo), 8))
    return SmallWorkload(tuple(offers))


def in_time_of(ordering: str, workload: SmallWorkload) -> int:
    """How many first tokens came when they were due."""
    run = run_sim(workload, Setup(partial(Sarathi, 512), ordering, blocks=8000, audited=False))
    run.conserved()
    due_ns = {i: offer.request.due_ns(0) or 0 for i, offer in run.offered.items()}
    return sum(times[0] <= due_ns[i] for i, times in run.log.times_ns.items())


def test_an_overload_keeps_more_promises_than_by_deadline_alone() -> None:
    loads = [chat_behind_reports(seed, 20.0) for seed in range(5)]
    ours, plain = (
        [in_time_of(ordering, load) for load in loads]
        for ordering in ("fewest_late", "earliest_deadline")
    )
    assert sum(ours) > 1.2 * sum(plain)
    assert all(few >= edf for few, edf in zip(ours, plain, strict=True))


def test_without_an_overload_there_is_nothing_to_gain() -> None:
    for seed in range(3):
        load = chat_behind_reports(seed, 5000.0)
        assert in_time_of("fewest_late", load) == in_time_of("earliest_deadline", load) == 120
