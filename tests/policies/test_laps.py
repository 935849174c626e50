"""Short prompts wait for each other a moment and never for a whole long one; alone, nothing is lost."""

from __future__ import annotations

from functools import partial

import pytest

from headway.api import simulate
from headway.core import NO_SLO, Request, Slo
from headway.policies.batching.laps import Laps
from headway.testing import Setup, run_sim, small_workload
from headway.timing import EagerChunks, load_device, load_model
from headway.workload import Listed, Offered

MS = 1_000_000
LONG, SHORT = 8000, 50


def _ttft_ms(prompts: list[tuple[float, int]], *, slo: Slo = NO_SLO, **options: int) -> list[float]:
    """Of prompts (arrival in ms, tokens), on an instance that only prefills."""
    offers = [
        Offered(Request(n, int(at * MS), tokens, 1, slo=slo), 1)
        for n, (at, tokens) in enumerate(prompts)
    ]
    columns = simulate(batching=Laps(**options), workload=Listed(offers)).requests()
    waits = dict(zip(columns["id"], columns["first_token_ns"] - columns["arrival_ns"], strict=True))
    return [float(waits[n]) / MS for n in range(len(prompts))]


def test_a_short_prompt_waits_for_a_chunk_not_for_a_long_prompt() -> None:
    long, short = _ttft_ms([(0, LONG), (5, SHORT)])
    (alone,) = _ttft_ms([(0, LONG)])
    assert short < 80 < alone < long < alone + 40  # the long one pays for one short step


def test_two_short_ones_gather_and_start_together() -> None:
    first, second = _ttft_ms([(0, SHORT), (12, SHORT)])
    assert first == pytest.approx(second + 12)
    apart, _ = _ttft_ms([(0, SHORT), (12, SHORT)], most_wait_ms=0, least_wait_ms=0)
    assert apart < first


def test_nobody_waits_when_a_deadline_is_near() -> None:
    patient, _ = _ttft_ms([(0, SHORT), (500, SHORT)])
    urgent, _ = _ttft_ms([(0, SHORT), (500, SHORT)], slo=Slo(ttft_ns=20 * MS))
    assert urgent + 10 < patient


def test_equal_long_prompts_are_served_as_by_fcfs() -> None:
    """The null: no short ones, so nothing to tell apart."""
    offers = [Offered(Request(n, n * 40 * MS, 1024, 1), 1) for n in range(30)]
    run = partial(simulate, workload=Listed(offers), options={})
    fcfs = run(batching="sarathi", options={"sarathi.token_budget": 1024}).summary
    assert run(batching="laps").summary["mean_ttft_ms"] == fcfs["mean_ttft_ms"]


def test_pads_to_the_nearest_shape_or_not_at_all() -> None:
    policy = Laps(most_padding=0.5)
    assert policy._pads([60, 50, 64]) == [64, 64, 128]  # 4 prompts of 64
    assert policy._pads([60, 10]) == [None, None]
    assert policy._pads([]) == []


def test_captured_shapes_save_launches() -> None:
    sheet, device = load_model("llama-3.1-8b"), load_device("h100")
    timing = EagerChunks(sheet, device)
    offers = [
        Offered(Request(n, 0, 15, 1), 1) for n in range(8)
    ]  # as 16 each: no more weights to read
    run = partial(simulate, workload=Listed(offers), timing=timing)
    saved_ms = (
        run(batching=Laps(most_padding=0)).summary["mean_ttft_ms"]
        - run(batching=Laps()).summary["mean_ttft_ms"]
    )
    assert saved_ms == pytest.approx(sheet.layers * timing.launch_ns / MS, abs=0.02)


def test_conserves_under_memory_pressure() -> None:
    for memory in ("recompute", "swap"):
        run_sim(small_workload(4, 40, 30.0), Setup("laps", memory=memory, blocks=140)).conserved()
