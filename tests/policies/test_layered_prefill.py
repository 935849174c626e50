"""A cohort goes through every layer once, a group a step, and reads fewer experts on its way."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, strategies as st

from headway.api import simulate
from headway.core import Request
from headway.reproductions.experiments.layered_prefill import _mean_ttft_ms
from headway.testing import Recording, Setup, run_sim, small_workload
from headway.testing.replay import PlanData
from headway.timing.model_sheet import visit_probabilities
from headway.workload import Listed, Offered


def test_every_token_meets_every_layer_once() -> None:
    run = run_sim(small_workload(2, 30, 20.0), Setup("layered_prefill", recorded=True, leap=False))
    run.conserved()
    recording: Recording = run.recordings[0]
    layers = run.instances[0].layers
    met: dict[int, float] = defaultdict(float)
    for call in recording.calls:
        assert isinstance(call.decision, PlanData)
        for request_id, tokens, ranges, *_ in call.decision.work.get("main", ()):
            first, last = ranges or (0, layers)
            met[request_id] += tokens * (last - first) / layers
    for request_id, offer in run.offered.items():
        output = len(run.log.times_ns[request_id])
        assert met[request_id] == pytest.approx(offer.request.prompt_tokens + output - 1)


def test_a_long_prompt_takes_as_many_steps_as_it_has_groups() -> None:
    offers = [Offered(Request(0, 0, 4000, 1), 1)]
    result = simulate(batching="layered_prefill", workload=Listed(offers))
    assert result.recorder.steps == 8  # 4,000 tokens: 8 groups of about 512 tokens' work


def test_skewed_routing_saves_experts_and_a_dense_model_has_none() -> None:
    chunked, layered = (_mean_ttft_ms(0, batching=name) for name in ("sarathi", "layered_prefill"))
    assert layered < 0.75 * chunked


@given(st.integers(2, 256), st.floats(0.0, 3.0), st.data())
def test_visits_are_probabilities_that_sum_to_top_k(
    count: int, skew: float, data: st.DataObject
) -> None:
    top_k = data.draw(st.integers(1, count))
    visits = visit_probabilities(count, top_k, skew)
    assert visits.sum() == pytest.approx(top_k)
    assert (visits <= 1 + 1e-9).all()
    assert (np.diff(visits) <= 1e-12).all()
