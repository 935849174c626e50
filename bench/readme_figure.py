"""Draw docs/figures/attainment.svg: who keeps the SLO up to which rate, from simulated runs.

Usage: python bench/readme_figure.py
Llama-3.1-8B on one H100, conversations, TTFT at most 1 s and TPOT at most 60 ms, 600 requests a run.
"""

from __future__ import annotations

from pathlib import Path

import headway

FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "attainment.svg"
RATES = (10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
RUNS = (
    ("prefill_first", "fcfs", "#D55E00"),
    ("sarathi", "fcfs", "#0072B2"),
    ("splitfuse", "fcfs", "#333333"),
    ("sarathi", "shortest_prompt", "#009E73"),
)
SLO = "ttft=1s,tpot=60ms"
REQUESTS = 600
WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 190, 50, 50  # margins
Point = tuple[float, float]


def curve(batching: str, ordering: str) -> list[Point]:
    """(rate, attainment) pairs."""
    compared = headway.compare(
        batching=batching, ordering=ordering, rates=RATES, requests=REQUESTS, slo=SLO, jobs=2
    )
    return sorted((row["rate_rps"], row["summary"]["slo_attainment"]) for row in compared.rows)


def across(rate: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (rate - RATES[0]) / (RATES[-1] - RATES[0])


def down(share: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)


def text(x: float, y: float, words: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{words}</text>'


def axes() -> list[str]:
    """Grid, ticks and names of the axes."""
    drawn = []
    for percent in range(0, 101, 20):
        y = down(percent / 100)
        drawn.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        drawn.append(text(LEFT - 8, y + 4, f"{percent} %", 'text-anchor="end"'))
    below = HEIGHT - BOTTOM + 18
    drawn += [text(across(rate), below, str(rate), 'text-anchor="middle"') for rate in RATES]
    middle = (LEFT + WIDTH - RIGHT) / 2
    drawn.append(text(middle, HEIGHT - 10, "offered requests per second", 'text-anchor="middle"'))
    drawn.append(text(LEFT - 48, 18, "Requests that kept their SLO", 'font-weight="bold"'))
    drawn.append(
        text(LEFT - 48, 34, "Llama-3.1-8B on one H100, simulated; TTFT ≤ 1 s, TPOT ≤ 60 ms")
    )
    return drawn


def spread(ends: list[float], least: float = 15) -> list[float]:
    """Where labels go so that none covers another: as given, pushed down where too close."""
    places = dict.fromkeys(range(len(ends)), 0.0)
    last = -least
    for index in sorted(places, key=lambda index: ends[index]):
        last = places[index] = max(ends[index], last + least)
    return [places[index] for index in range(len(ends))]


def main() -> None:
    curves = [curve(batching, ordering) for batching, ordering, _ in RUNS]
    labels = spread([down(points[-1][1]) for points in curves])
    drawn = axes()
    for (batching, ordering, colour), points, label in zip(RUNS, curves, labels, strict=True):
        path = " ".join(f"{across(rate):.1f},{down(share):.1f}" for rate, share in points)
        drawn.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>'
        )
        name = f"{batching} + {ordering}"
        drawn.append(text(WIDTH - RIGHT + 6, label + 4, name, f'fill="{colour}"'))
        print(f"{name:28}", "  ".join(f"{rate:g}: {share:.1%}" for rate, share in points))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
    )
    FIGURE.parent.mkdir(exist_ok=True)
    FIGURE.write_text("\n".join([head, *drawn, "</svg>"]) + "\n", "utf-8")
    print(f"wrote {FIGURE.relative_to(FIGURE.parents[2])}")


if __name__ == "__main__":
    main()
