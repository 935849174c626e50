from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from headway.core import NS_PER_MS, Slo, Stage
from headway.metrics import summarise
from headway.metrics.targets import Track

from .runs import Run

MS = NS_PER_MS


def attained(slo: Slo, times_ms: list[float], stages: tuple[Stage, ...] = ()) -> bool:
    run = Run()
    run.answer(run.offer(0, slo=slo, stages=stages), times_ms)
    return bool(summarise(run.recorder)["attained"])


@pytest.mark.parametrize(
    "slo, times_ms, meets",
    [
        (Slo(), [10, 20], True),
        (Slo(ttft_ns=10 * MS), [10, 99], True),
        (Slo(ttft_ns=10 * MS), [10.000001, 11], False),
        (Slo(tpot_ns=5 * MS), [100, 101, 110], True),  # (110 - 100) / 2
        (Slo(tpot_ns=5 * MS), [100, 101, 110.000001], False),
        (Slo(tpot_ns=1), [100], True),  # one token has no TPOT
        (Slo(e2e_ns=20 * MS), [10, 20], True),
        (Slo(e2e_ns=20 * MS), [10, 20.5], False),
        (Slo(deadline_ns=20 * MS), [20.5], False),
        (Slo(itl_p99_ns=5 * MS), [10], True),
        (Slo(itl_p99_ns=5 * MS), [10, 15, 20.1], False),
        (Slo(ttft_ns=9 * MS, e2e_ns=99 * MS), [10, 20], False),  # all targets, not any
    ],
)
def test_a_request_attains_when_it_meets_every_target_that_is_set(
    slo: Slo, times_ms: list[float], meets: bool
) -> None:
    assert attained(slo, times_ms) is meets


def test_one_slow_gap_in_a_hundred_keeps_itl_p99_and_two_do_not() -> None:
    slo = Slo(itl_p99_ns=5 * MS)
    assert attained(slo, [float(index) for index in range(100)] + [200.0])
    assert not attained(slo, [float(index) for index in range(100)] + [200.0, 300.0])


@given(st.lists(st.integers(0, 100), min_size=1, max_size=300))
def test_itl_p99_is_the_smallest_gap_that_covers_99_percent(gaps: list[int]) -> None:
    track = Track(Slo(itl_p99_ns=1))
    for gap in gaps:
        track.gaps.append(gap)
        track.counts.append(1)
    p99 = track.itl_p99_ns()
    assert p99 is not None
    assert 100 * sum(gap <= p99 for gap in gaps) >= 99 * len(gaps)
    assert 100 * sum(gap < p99 for gap in gaps) < 99 * len(gaps)


def test_late_units_are_judged_by_their_own_due_time() -> None:
    stream = (Stage(unit="frame", period_ns=10 * MS),)
    on_time = [10.0 * (unit + 1) for unit in range(20)]
    one_late = [*on_time[:7], 81.0, *on_time[8:]]
    assert attained(Slo(late_permille=0), on_time, stages=stream)
    assert attained(Slo(late_permille=50), one_late, stages=stream)  # 1 of 20
    assert not attained(Slo(late_permille=49), one_late, stages=stream)


def test_attainment_counts_all_offered() -> None:
    run = Run()
    slo = Slo("chat", ttft_ns=50 * MS)
    run.answer(run.offer(0, slo=slo), [10, 20])
    run.answer(run.offer(0, slo=slo), [60, 70])
    run.answer(run.offer(1, slo=slo), [10, 20], "aborted")
    run.answer(run.offer(1, slo=slo), [10], "failed: device lost")
    run.reject(run.offer(2, slo=slo))
    run.reject(run.offer(2, slo=slo), "shed")
    run.offer(3, slo=slo)
    run.offer(9, slo=Slo("bulk"))
    summary = summarise(run.recorder)
    assert summary["offered"] == 8
    assert summary["slo_attainment"] == pytest.approx(1 / 8)
    assert summary["completed"] + summary["failed"] == 8
    assert sum(summary["outcomes"].values()) == 8
    assert summary["outcomes"]["rejected"] == 1
    misses = summary["slo_misses"]
    assert {name: count for name, count in misses.items() if count} == {
        "ttft": 1, "aborted": 1, "failed": 1, "rejected": 1, "shed": 1, "unfinished": 2,
    }  # fmt: skip
    assert summary["by_class"]["chat"]["slo_attainment"] == pytest.approx(1 / 7, abs=1e-6)
    assert summary["by_class"]["bulk"]["offered"] == 1


def test_tpot_leaves_out_single_tokens_and_counts_them() -> None:
    run = Run()
    run.answer(run.offer(), [10])
    run.answer(run.offer(), [10, 20, 40])
    summary = summarise(run.recorder)
    assert summary["mean_tpot_ms"] == 15.0
    assert summary["tpot_undefined"] == 1
    assert summary["attained"] == 2


def test_goodput_is_attained_over_first_arrival_to_last_token() -> None:
    run = Run()
    slo = Slo(ttft_ns=500 * MS)
    run.answer(run.offer(1000, slo=slo), [1100, 1500])
    run.answer(run.offer(1200, slo=slo), [2000, 3000])  # misses
    summary = summarise(run.recorder)
    assert summary["duration"] == 2.0
    assert summary["request_goodput"] == 0.5
    assert summary["request_throughput"] == 1.0
