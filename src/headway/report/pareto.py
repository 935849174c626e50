"""Which points nothing else beats."""

from __future__ import annotations

from collections.abc import Sequence as Seq


def front(points: Seq[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other point beats, smaller being better in both, by first coordinate.

    A point is beaten by one that is no larger in both coordinates and smaller in one; equal points
    are all kept. Negate a coordinate of which more is better.
    """
    best = float("inf")
    kept: list[int] = []
    order = sorted(range(len(points)), key=lambda index: (*points[index], index))
    for index in order:
        first, second = points[index]
        if second < best or (kept and points[kept[-1]] == (first, second)):
            kept.append(index)
            best = second
    return kept
