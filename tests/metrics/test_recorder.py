from __future__ import annotations

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from headway.core import NS_PER_MS, Sequence, Slo
from headway.metrics import Recorder, recorder as recorder_module, summarise

from .runs import Run

TIGHT = Slo("chat", ttft_ns=200 * NS_PER_MS, tpot_ns=30 * NS_PER_MS, itl_p99_ns=60 * NS_PER_MS)
LATE = Slo("stream", ttft_ns=100 * NS_PER_MS, tpot_ns=25 * NS_PER_MS, late_permille=100)
CLASSES = {1: [Slo()], 2: [TIGHT, Slo("bulk")], 3: [TIGHT, Slo("bulk"), LATE]}


def drive(
    seed: int, classes: int, *, leap: bool, names_decodes: bool = False, rounds: int = 30
) -> Run:
    """Rounds of identical decode steps with ends between them, stepped through or leapt over."""
    rng, run, batch = random.Random(seed), Run(names_decodes=names_decodes), 6
    slos, now = CLASSES[classes], 0

    def offer() -> Sequence:
        return run.offer(
            now / NS_PER_MS,
            slo=rng.choice(slos),
            tenant=rng.choice("abc"[:classes]),
            prompt=rng.randint(1, 99),
        )

    members = [offer() for _ in range(batch)]
    for _ in range(rounds):
        repeats = rng.randint(1, 9)
        ends = [now := now + rng.randint(1, 40 * NS_PER_MS) for _ in range(repeats)]
        idle = rng.choice(members)  # prefills: emits nothing
        if leap:
            run.land(
                ends, {member: 0 if member is idle else repeats for member in members}, leap=True
            )
        else:
            for end in ends:
                run.land([end], {member: 0 if member is idle else 1 for member in members})
        leaves = rng.randrange(batch)
        run.end(members[leaves], now_ms=now / NS_PER_MS)
        members[leaves] = offer()
    return run


@given(st.integers(0, 10**6), st.sampled_from([1, 2, 3]))
@settings(max_examples=25, deadline=None)
def test_leaping_records_what_stepping_records(seed: int, classes: int) -> None:
    runs = [
        drive(seed, classes, leap=leap, names_decodes=named)
        for leap in (False, True)
        for named in (False, True)
    ]
    assert len({json.dumps(summarise(run.recorder)) for run in runs}) == 1
    assert all(sorted(run.gaps) == sorted(runs[0].gaps) for run in runs)


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_itl_percentiles_are_those_of_the_raw_gaps(
    classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "_FOLD_GAPS", 100)  # folds many times in this short run
    run = drive(5, classes, leap=False, rounds=100)
    summary = summarise(run.recorder)
    for percent in (50, 90, 95, 99):
        exact = np.percentile(run.gaps, percent) / NS_PER_MS
        assert summary[f"p{percent}_itl_ms"] == pytest.approx(exact, rel=2e-3)
    assert summary["mean_itl_ms"] == pytest.approx(np.mean(run.gaps) / NS_PER_MS, abs=1e-5)
    assert summary["std_itl_ms"] == pytest.approx(np.std(run.gaps) / NS_PER_MS, rel=2e-3)
    starts = sum(sequence.first_token_ns >= 0 for sequence in run.sequences.values())
    assert summary["emitted_tokens"] == len(run.gaps) + starts


def test_same_events_same_bytes() -> None:
    first, second = (json.dumps(summarise(drive(9, 3, leap=True).recorder)) for _ in range(2))
    assert first == second


def test_further_tokens_of_a_speculative_step_have_gap_zero() -> None:
    run = Run()
    one, other = run.offer(), run.offer()
    run.land([1000], {one: 3, other: 1})  # first token and two drafts
    run.land([5000], {one: 2, other: 4})
    histogram = run.recorder.itl()
    assert histogram is not None
    assert histogram.count == 8  # 10 tokens of two requests
    assert histogram.total_ns == 4000 + 4000
    assert sorted(run.gaps) == [0, 0, 0, 0, 0, 0, 4000, 4000]


def test_a_failed_step_records_nothing() -> None:
    run = Run()
    one = run.offer()
    run.land([], {one: 0})
    assert run.recorder.emitted_tokens == 0
    assert run.recorder.last_token_ns == -1


def test_prefill_chunks_emit_no_tokens_and_do_not_lengthen_the_run() -> None:
    run = Run()
    one = run.offer()
    run.land([100], {one: 1})
    run.land([900], {run.offer(): 0})
    assert run.recorder.last_token_ns == 100
    assert run.recorder.emitted_tokens == 1


def test_tenants_beyond_the_limit_share_gaps_but_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recorder_module, "_OWN_GAPS", 3)
    run = Run()
    for index in range(9):
        run.answer(
            run.offer(index, tenant=f"t{index}", slo=Slo("ab"[index % 2])), [index + 5, index + 7]
        )
    recorder = run.recorder
    assert recorder.itl().count == 9  # type: ignore[union-attr]
    assert recorder.itl(slo_class="a").count == 5  # type: ignore[union-attr]
    assert recorder.itl(tenant="t0").count == 1  # type: ignore[union-attr]
    assert recorder.itl(tenant="t8") is None
    summary = summarise(recorder)
    assert summary["by_tenant"]["t8"]["completed"] == 1
    assert summary["by_tenant"]["t8"]["p99_itl_ms"] is None


def test_a_request_that_was_never_offered_is_refused() -> None:
    run = Run()
    sequence = run.offer()
    with pytest.raises(KeyError):
        Recorder().on_end(sequence.request, sequence, "finished", 0)
