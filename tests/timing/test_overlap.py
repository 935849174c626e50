"""What cutting a batch into nano-batches is worth, and what a drafter costs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st
from tests.timing.steps import chunk, decode, grown, prompt, step

from headway.clocks import VirtualClock
from headway.core import Step, Work
from headway.core.protocols import OVERLAP
from headway.sim import Lengths, Timed
from headway.timing import (
    Affine,
    Drafting,
    Roofline,
    blocks_beside,
    kv_capacity,
    load_device,
    load_model,
)

A100 = load_device("a100")
LARGE = load_model("llama-2-70b")
TIMING = Roofline(LARGE, A100, 8)
ALONE = Roofline(LARGE, replace(A100, memory_kernel_share=1.0, network_kernel_share=1.0), 8)
DENSE = [*[decode(1200) for _ in range(683)], chunk(1365, 0)]


def _ns(timing: Roofline, works: list[Work], parts: int) -> int:
    return timing.durations_ns(step(*works)._replace(nano_batches=parts), 1)[0]


def test_overlap_pays_in_a_dense_batch_and_cutting_without_it_costs() -> None:
    whole, cut, alone = _ns(TIMING, DENSE, 1), _ns(TIMING, DENSE, 2), _ns(ALONE, DENSE, 2)
    assert cut < 0.9 * whole
    assert whole < alone < 1.1 * whole


def test_the_gain_vanishes_where_one_resource_binds() -> None:
    single = [decode(1200)]
    assert _ns(TIMING, single, 2) == pytest.approx(_ns(TIMING, single, 1), rel=1e-6)
    few = [decode(1200) for _ in range(8)]
    assert _ns(TIMING, few, 2) > _ns(TIMING, few, 1)  # weights are read twice
    one = Roofline(load_model("llama-3.1-8b"), A100)
    reading = [decode(8000) for _ in range(64)]
    assert _ns(one, reading, 2) > _ns(one, reading, 1)  # memory is busy all along
    assert _ns(one, [chunk(2048, 0)], 2) == pytest.approx(_ns(one, [chunk(2048, 0)], 1), rel=0.01)


works = st.lists(
    st.one_of(
        st.integers(1, 3000).map(decode),
        st.tuples(st.integers(2, 700), st.integers(0, 3000)).map(lambda pair: chunk(*pair)),
    ),
    min_size=1,
    max_size=8,
)


@given(works, st.integers(2, 4), st.sampled_from(["llama-2-70b", "gpt-oss-120b", "mixtral-8x7b"]))
def test_no_bound_is_beaten_and_a_leap_is_its_steps(
    batch: list[Work], parts: int, name: str
) -> None:
    timing = Roofline(load_model(name), A100, 8)
    plan = step(*batch, repeats=5)._replace(nano_batches=parts)
    leap = timing.durations_ns(plan, 5)
    steps = [
        timing.durations_ns(step(*grown(batch, repeat))._replace(nano_batches=parts), 1)[0]
        for repeat in range(5)
    ]
    assert leap == steps
    cut_alone = Roofline(
        load_model(name), replace(A100, memory_kernel_share=1.0, network_kernel_share=1.0), 8
    )
    assert leap[0] <= _ns(cut_alone, batch, parts)
    assert parts * leap[0] >= 0.9 * _ns(timing, batch, 1)  # nothing overlaps with itself


def test_decodes_that_are_known_cost_what_others_do() -> None:
    known = tuple(work.sequence for work in DENSE[:-1])
    plan = step(*DENSE)._replace(nano_batches=2)
    assert TIMING.durations_ns(plan._replace(decodes=known), 3) == TIMING.durations_ns(plan, 3)


def test_only_timing_models_that_price_nano_batches_offer_overlap() -> None:
    assert OVERLAP in Timed(VirtualClock(), TIMING, Lengths()).offers
    assert OVERLAP not in Timed(VirtualClock(), Affine(1000), Lengths()).offers


TARGET = Roofline(load_model("llama-3.1-70b"), A100, 4)
DRAFTED = Drafting(TARGET, load_model("llama-3.2-1b"), A100, 4)


def test_drafts_cost_a_pass_each_and_plain_decodes_nothing() -> None:
    plain = step(*[decode(500) for _ in range(4)])
    assert DRAFTED.durations_ns(_decoding(plain.work), 1) == TARGET.durations_ns(plain, 1)
    costs = []
    for drafts in range(4):
        batch = [Work(prompt(500, 501), 1 + drafts, None, drafts) for _ in range(4)]
        more = (
            DRAFTED.durations_ns(_decoding(batch), 1)[0] - TARGET.durations_ns(step(*batch), 1)[0]
        )
        costs.append(more)
    assert costs[0] == 0
    assert costs[1] < 0.1 * TARGET.durations_ns(plain, 1)[0]
    assert costs[3] == pytest.approx(3 * costs[1], rel=0.02)


def test_who_drafts_less_leaves_the_passes_earlier() -> None:
    def cost(*lengths: int) -> int:
        batch = [Work(prompt(900, 901), 1 + drafts, None, drafts) for drafts in lengths]
        return (
            DRAFTED.durations_ns(_decoding(batch), 1)[0] - TARGET.durations_ns(step(*batch), 1)[0]
        )

    passes = [(2, 1800), (2, 1802), (1, 902), (1, 903)]
    assert cost(4, 2) == sum(DRAFTED.draft.step_ns(*each) for each in passes)
    assert cost(4, 0, 0) == cost(4)
    assert cost(4) < cost(4, 2) < cost(4, 4)


def test_prompts_are_computed_twice_and_leaping_does_not_change_it() -> None:
    batch = [decode(300), chunk(256, 128)]
    batch[0].sequence.decodes = True
    leap = DRAFTED.durations_ns(step(*batch, repeats=4), 4)
    later = [grown(batch, repeat) for repeat in range(4)]
    for each in later:
        each[0].sequence.decodes = True
    assert leap == [DRAFTED.durations_ns(step(*each), 1)[0] for each in later]
    assert leap[0] > TARGET.durations_ns(step(*batch), 1)[0]


def test_the_drafter_takes_memory() -> None:
    capacity = kv_capacity(load_model("llama-3.1-70b"), A100, 4, step_tokens=512)
    small, large = (
        blocks_beside(capacity, load_model(name), 4) for name in ("llama-3.2-1b", "llama-3.1-8b")
    )
    assert large < small < capacity.blocks


def _decoding(batch: Iterable[Work]) -> Step:
    works = list(batch)
    for work in works:
        work.sequence.decodes = True
    return step(*works)
