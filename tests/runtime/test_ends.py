"""Every request ends exactly once, whatever happens to it and whenever."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given, settings, strategies as st

from headway.clocks import VirtualClock
from headway.core import NS_PER_MS, NS_PER_S, Request, Slo, Stage
from headway.core.plan import Step, WorkDone
from headway.core.sequence import ENTERING, LEAVING, RESTING, RUNNING, WAITING
from headway.policies.batching.prefill_first import PrefillFirst
from headway.policies.batching.sarathi import Sarathi
from headway.policies.memory.swap import Swap
from headway.policies.ordering.fcfs import Fcfs
from headway.runtime import Instance, InstanceOptions
from headway.runtime.ended import EndedIds
from headway.sim import Lengths, Timed
from headway.testing import Log, Setup, SmallWorkload, StepTimes, audit, run_sim, small_workload
from headway.workload import Offered

PERIODIC = (Stage(period_ns=400 * NS_PER_MS, unit_tokens=8),)


class Stand:
    """One instance in virtual time, driven by hand."""

    def __init__(self, *, blocks: int = 100, lengths: type[Lengths] = Lengths) -> None:
        self.clock, self.log = VirtualClock(), Log(audited=True)
        self.lengths = lengths({}, StepTimes().layers)
        executor = Timed(self.clock, StepTimes(), self.lengths)
        policies = (Sarathi(), Fcfs(), Swap())
        self.instance = Instance(
            self.clock, executor, policies, InstanceOptions(blocks), self.log, StepTimes()
        )

    def submit(self, *requests: Request) -> None:
        for request in requests:
            self.lengths.output_tokens[request.id] = request.max_tokens
            assert self.instance.submit(request) is None

    def run_until(self, request_id: int, state: str, *, swapped: bool = False) -> None:
        for _ in range(100_000):
            sequence = self.instance.sequences[request_id]
            if sequence.state == state and sequence.swapped == swapped:
                return
            self.clock.run(self.clock.now_ns() + 100_000)
        raise AssertionError(f"{sequence!r} never came to be {state}")

    def empty(self) -> bool:
        audit(self.instance)
        pool, moves = self.instance.pool, self.instance.moves
        return pool.free == pool.total and not moves.host_held and not self.instance.sequences


def crowd() -> list[Request]:
    """Two that fit in 100 blocks when they start, and do not when they have grown."""
    return [Request(0, 0, 600, 300), Request(1, 0, 600, 300)]


@pytest.mark.parametrize(
    ("state", "swapped"),
    [(WAITING, False), (RUNNING, False), (LEAVING, False), (WAITING, True), (ENTERING, True)],
)
def test_abort_in_every_state(state: str, *, swapped: bool) -> None:
    stand = Stand()
    stand.submit(*crowd(), Request(2, 0, 700, 5))
    stand.run_until(2 if (state, swapped) == (WAITING, False) else 1, state, swapped=swapped)
    aborted = 2 if (state, swapped) == (WAITING, False) else 1
    stand.instance.abort(aborted)
    stand.clock.run()
    assert stand.log.ends[aborted] == "aborted"
    assert set(stand.log.ends.values()) == {"aborted", "finished"}
    assert stand.empty()


def test_abort_of_a_resting_stream_frees_it_and_its_release_does_nothing() -> None:
    stand = Stand()
    stand.submit(Request(0, 0, 50, 20, stages=PERIODIC))
    stand.run_until(0, RESTING)
    stand.instance.abort(0)
    assert stand.log.ends == {0: "aborted"}
    stand.clock.run()
    assert stand.empty()


def test_abort_of_an_unknown_request_does_nothing() -> None:
    stand = Stand()
    stand.instance.abort(7)
    stand.clock.run()
    assert not stand.log.ends


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2 * NS_PER_S)), max_size=12))
def test_aborts_at_any_time_end_each_request_once(aborts: list[tuple[int, int]]) -> None:
    stand = Stand()
    for request_id, time_ns in aborts:
        stand.clock.call_at(time_ns, partial(stand.instance.abort, request_id))
    stand.submit(*crowd(), *(Request(n, 0, 300, 40) for n in range(2, 6)))
    stand.clock.run()
    assert set(stand.log.ends) == set(range(6))
    assert stand.empty()


def test_submit_is_accepted_again_and_counts_once() -> None:
    stand = Stand()
    request = Request(0, 0, 50, 5)
    stand.submit(request, request)
    stand.clock.run()
    stand.submit(request)  # a late repeat, after its end
    stand.clock.run()
    assert stand.log.ends == {0: "finished"}
    assert len(stand.log.times_ns[0]) == 5


def test_ended_ids_are_forgotten_oldest_first() -> None:
    ended = EndedIds(most=2)
    for request_id in (1, 2, 3):
        ended.add(request_id)
    assert [request_id in ended for request_id in (1, 2, 3)] == [False, True, True]


def test_request_that_could_never_fit_is_rejected_with_the_numbers() -> None:
    stand = Stand(blocks=10)
    why_not = stand.instance.submit(Request(0, 0, 150, 11))
    assert why_not is not None
    assert "161 tokens" in why_not
    assert "160" in why_not
    assert stand.instance.submit(Request(1, 0, 150, 10)) is None


def test_drain_completes_after_the_last_lease_and_takes_no_more() -> None:
    stand = Stand()
    stand.submit(*crowd())
    drained_ns: list[int] = []
    stand.clock.run(5 * NS_PER_MS)
    stand.instance.drain(lambda: drained_ns.append(stand.clock.now_ns()))
    why_not = stand.instance.submit(Request(9, 0, 5, 5))
    assert why_not is not None
    assert "drains" in why_not
    for request_id in (0, 1):  # the step in flight still holds their blocks
        stand.instance.abort(request_id)
    assert not drained_ns
    assert stand.instance.pool.free < stand.instance.pool.total
    stand.clock.run()
    assert len(drained_ns) == 1
    assert drained_ns[0] > 5 * NS_PER_MS
    assert stand.empty()


def test_drain_of_an_idle_instance_completes_at_once() -> None:
    drained: list[bool] = []
    Stand().instance.drain(lambda: drained.append(True))
    assert drained == [True]


class Breaks(Lengths):
    """Request 3 cannot be computed."""

    def outcome(self, step: Step, layers: int) -> list[WorkDone]:
        if any(work.sequence.id == 3 for work in step.work):
            raise ArithmeticError("request 3 breaks the kernel")
        return super().outcome(step, layers)


def test_failed_step_ends_only_its_own_requests() -> None:
    stand = Stand(blocks=1000, lengths=Breaks)
    stand.instance.batching = PrefillFirst(max_num_batched_tokens=800)
    stand.submit(*(Request(n, 0, 500, 20) for n in range(6)))
    stand.clock.run()
    assert stand.log.ends.pop(3) == "failed: request 3 breaks the kernel"
    assert set(stand.log.ends.values()) == {"finished"}
    assert len(stand.log.ends) == 5
    assert stand.empty()


def test_results_of_ended_sequences_are_dropped_two_steps_deep() -> None:
    """INV: with a step planned ahead, nothing comes out for a request after its end (the log refuses it)."""
    overlap = type("Overlap", (Sarathi,), {"lanes": {"main": 2}})
    workload = small_workload(4, 30, 20.0, output_tokens=(1, 8), slack_tokens=5, abort_share=0.3)
    run = run_sim(workload, Setup(overlap, blocks=150))
    run.conserved()
    one_deep = run_sim(workload, Setup(blocks=150))
    assert len(run.log.steps) > len(one_deep.log.steps)


def test_a_shed_request_ends_as_shed() -> None:
    class Sheds(Sarathi):
        def plan(self, view):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            plan = super().plan(view)
            late = [s for s in view.waiting if s.id % 2 and s not in view.draft.taken]
            return type(plan)(plan.work, shed=late)

    run = run_sim(small_workload(2, 20, 100.0), Setup(Sheds))
    run.conserved()
    assert {outcome for i, outcome in run.log.ends.items() if not i % 2} == {"finished"}
    assert "shed" in run.log.ends.values()


def test_wake_plans_again_when_nothing_happens() -> None:
    times_ns: list[int] = []

    class Waits(Sarathi):
        def plan(self, view):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            times_ns.append(view.now_ns)
            plan = super().plan(view)
            return type(plan)(wake_at_ns=7_000_000) if view.now_ns < 7_000_000 else plan

    stand = Stand()
    stand.instance.batching = Waits()
    stand.submit(Request(0, 0, 10, 1, Slo()))
    stand.clock.run()
    assert times_ns == [0, 7_000_000]
    assert stand.log.ends == {0: "finished"}


def test_a_chunk_that_leaves_one_token_is_taken_up_again() -> None:
    """One token left of a unit's nine: neither a decode yet nor, by count, a prefill."""
    stage = Stage(period_ns=400 * NS_PER_MS, unit_tokens=8)
    workload = SmallWorkload((Offered(Request(0, 0, 8, 5, stages=(stage,)), 5),))
    run = run_sim(workload, Setup(partial(Sarathi, token_budget=8, max_num_seqs=8)))
    run.conserved()
    assert run.log.ends == {0: "finished"}
