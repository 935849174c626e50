"""Hypothesis strategies: workloads and setups that meet at every corner of the runtime."""

from __future__ import annotations

from functools import partial

from hypothesis import strategies as st

from headway.core.protocols import TimingModel
from headway.policies.batching.prefill_first import PrefillFirst
from headway.policies.batching.sarathi import Sarathi
from headway.policies.batching.splitfuse import Splitfuse
from headway.testing.policy_refs import PolicyRef
from headway.testing.runs import Setup
from headway.testing.small_workload import SmallWorkload, small_workload
from headway.testing.step_times import StepTimes

ORDERINGS = ("fcfs", "shortest_prompt", "earliest_deadline")
MEMORIES = ("recompute", "swap")
SHORT, LONG = (1, 900), (300, 6000)
LEAST_BLOCKS = 450  # holds the longest request of LONG, three turns of it included


@st.composite
def workloads(draw: st.DrawFn, *, most: int = 25) -> SmallWorkload:
    """Up to `most` requests: short or long, with aborts, streams, prefixes, turns and tenants."""
    return small_workload(
        draw(st.integers(0, 1 << 16)),
        draw(st.integers(1, most)),
        draw(st.sampled_from((2.0, 10.0, 200.0))),
        prompt_tokens=draw(st.sampled_from((SHORT, SHORT, LONG))),
        output_tokens=draw(st.sampled_from(((1, 4), (1, 60), (60, 200)))),
        streams=draw(st.integers(0, 3)),
        unit_tokens=draw(st.sampled_from((0, 1, 8))),
        abort_share=draw(st.sampled_from((0.0, 0.2))),
        prefixes=draw(st.booleans()),
        turns=draw(st.integers(0, 2)),
        tenants=draw(st.integers(1, 2)),
        slack_tokens=draw(st.sampled_from((0, 5))),
    )


def steady_batchings() -> st.SearchStrategy[PolicyRef]:
    """Makers of shipped batching policies that leap, with small and usual budgets."""
    budgets = st.sampled_from((128, 130, 256, 512))
    return st.one_of(
        st.builds(lambda tokens: partial(Sarathi, tokens), budgets),
        st.builds(lambda tokens: partial(Splitfuse, tokens), budgets),
        st.builds(lambda tokens: partial(PrefillFirst, tokens * 4), budgets),
        st.just("splitfuse"),
    )


def timings() -> st.SearchStrategy[TimingModel]:
    """Odd numbers, and round ones under which many events are simultaneous."""
    even = StepTimes(10_000_000, 0, 0, block_ns=1_000_000)
    return st.sampled_from((StepTimes(), StepTimes(sequence_ns=7_001, block_ns=1), even))


@st.composite
def setups(draw: st.DrawFn, batchings: st.SearchStrategy[PolicyRef] | None = None) -> Setup:
    """Any shipped ordering and memory policy, in a pool that is roomy or as small as it may be."""
    return Setup(
        draw(batchings if batchings is not None else steady_batchings()),
        draw(st.sampled_from(ORDERINGS)),
        draw(st.sampled_from(MEMORIES)),
        blocks=draw(st.sampled_from((LEAST_BLOCKS, LEAST_BLOCKS, 700, 20_000))),
        host_blocks=draw(st.sampled_from((None, None, 0, 60))),
        prefix_cache=draw(st.booleans()),
        report_interval_ns=draw(st.sampled_from((None, 30_000_000, 77_777_777))),
        instances=draw(st.sampled_from((1, 1, 2))),
        timing=draw(timings()),
        seed=draw(st.integers(0, 3)),
    )
