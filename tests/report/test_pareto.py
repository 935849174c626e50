from __future__ import annotations

from hypothesis import given, strategies as st

from headway.report.pareto import front

POINTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30)


def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] <= other[0] and one[1] <= other[1]


@given(POINTS)
def test_the_front_is_all_that_nothing_beats(points: list[tuple[float, float]]) -> None:
    unbeaten = {
        index
        for index, point in enumerate(points)
        if not any(beats(other, point) for other in points)
    }
    kept = front(points)
    assert set(kept) == unbeaten
    assert [points[index][0] for index in kept] == sorted(points[index][0] for index in kept)
