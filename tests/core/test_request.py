"""Due times: what a request was promised, unit by unit."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given, strategies as st

from headway.core import NO_SLO, Request, Slo, Stage

maybe = st.none() | st.integers(0, 10**9)


@given(maybe, maybe, maybe, st.integers(0, 50))
def test_due_times_never_decrease_with_the_unit(
    first_ns: int | None, each_ns: int | None, deadline_ns: int | None, unit: int
) -> None:
    stage = Stage(first_ns=first_ns, each_ns=each_ns, deadline_ns=deadline_ns)
    due = stage.due_ns(unit)
    known = [value for value in (first_ns, deadline_ns) if value is not None]
    assert (due is None) == (
        deadline_ns is None and (first_ns is None or (unit > 0 and each_ns is None))
    )
    if due is not None:
        assert due >= min(known)
        following = stage.due_ns(unit + 1)
        assert following is None or following >= due


@pytest.mark.parametrize(
    ("slo", "dues"),
    [
        (NO_SLO, [None, None]),
        (Slo(ttft_ns=100), [1100, None]),
        (Slo(ttft_ns=100, tpot_ns=10), [1100, 1110]),
        (Slo(e2e_ns=105, ttft_ns=100, tpot_ns=10), [1100, 1105]),
        (Slo(deadline_ns=90, e2e_ns=105, ttft_ns=100), [1090, 1090]),
        (Slo(tpot_ns=10), [None, None]),
        (Slo(itl_p99_ns=10, late_permille=5), [None, None]),
    ],
)
def test_due_times_follow_the_slo(slo: Slo, dues: list[int | None]) -> None:
    request = Request(0, 1000, 5, 5, slo)
    assert [request.due_ns(0), request.due_ns(1)] == dues
    assert slo.promises == (slo is not NO_SLO)


def test_a_periodic_unit_is_due_when_the_next_is_released() -> None:
    stage = Stage(period_ns=40, unit_tokens=8, deadline_ns=1)
    request = Request(0, 1000, 5, 5, stages=(stage,))
    assert request.period_ns == 40
    assert [request.due_ns(unit) for unit in range(3)] == [1040, 1080, 1120]


def test_requests_are_values() -> None:
    one, other = (Request(0, 0, 5, 5, Slo(ttft_ns=1)) for _ in range(2))
    assert one == other
    assert len({one, other}) == 1
    with pytest.raises(FrozenInstanceError):
        one.prompt_tokens = 6  # type: ignore[misc]


def test_many_slos_do_not_mix_up_their_stages() -> None:
    """The stage of an Slo is remembered by the object; objects come and go."""
    for n in range(1, 2000):
        assert Request(n, 0, 1, 1, Slo(ttft_ns=n)).due_ns(0) == n
