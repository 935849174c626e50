"""One broken work ends its own request; the rest of its step goes on as if nothing had happened."""

from __future__ import annotations

from functools import partial

from hypothesis import given, settings, strategies as st

from headway.clocks import VirtualClock
from headway.core import Request
from headway.core.plan import Step, WorkDone
from headway.policies.batching.sarathi import Sarathi
from headway.policies.memory.swap import Swap
from headway.policies.ordering.fcfs import Fcfs
from headway.runtime import Instance, InstanceOptions
from headway.sim import Lengths, Timed
from headway.testing import Log, StepTimes, audit

OUTPUT = 12


class Speaks(Lengths):
    """Emits ids, as an engine does, and fails request n once it has said `fails[n]` tokens."""

    def __init__(self, layers: int, fails: dict[int, int]) -> None:
        super().__init__({}, layers, leaps=False)
        self.fails = fails

    def outcome(self, step: Step, layers: int) -> list[WorkDone]:
        results = super().outcome(step, layers)
        for n, (work, done) in enumerate(zip(step.work, results, strict=True)):
            name, said = work.sequence.id, work.sequence.output_tokens
            if done.layers == self.layers and said >= self.fails.get(name, OUTPUT):
                results[n] = WorkDone(layers, 0, 0, error=f"{name} is broken")
            else:
                results[n] = done._replace(ids=tuple(range(said, said + done.emitted)))
        return results


def run(fails: dict[int, int], requests: int, *, deep: bool = False, blocks: int = 40) -> Log:
    clock, log, times = VirtualClock(), Log(audited=True), StepTimes()
    lengths = Speaks(times.layers, fails)
    batching = type("Overlap", (Sarathi,), {"lanes": {"main": 2}})() if deep else Sarathi()
    instance = Instance(
        clock,
        Timed(clock, times, lengths),
        (batching, Fcfs(), Swap()),
        InstanceOptions(blocks),
        log,
        times,
    )
    for n in range(requests):
        lengths.output_tokens[n] = OUTPUT
        clock.call_at(n * 1_000_000, partial(instance.submit, Request(n, 0, 70 + n, OUTPUT)))  # type: ignore[arg-type]
    clock.run()
    audit(instance)
    assert instance.pool.free == instance.pool.total
    assert not instance.sequences
    assert not instance.orphans
    return log


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.integers(0, 7), st.integers(0, OUTPUT - 1)),
    st.booleans(),
    st.sampled_from([20, 40, 200]),
)
def test_any_work_may_fail_at_any_time(fails: dict[int, int], deep: bool, blocks: int) -> None:
    log = run(fails, 8, deep=deep, blocks=blocks)
    for n in range(8):
        if n in fails:
            assert log.ends[n] == f"failed: {n} is broken"
            assert log.ids.get(n, []) == list(range(fails[n]))
        else:
            assert log.ends[n] == "finished"
            assert log.ids[n] == list(range(OUTPUT))


def test_the_first_decode_of_a_step_may_be_the_broken_one() -> None:
    log = run({0: 5}, 3)
    assert log.ends == {0: "failed: 0 is broken", 1: "finished", 2: "finished"}
    assert all(log.ids[n] == list(range(OUTPUT)) for n in (1, 2))
