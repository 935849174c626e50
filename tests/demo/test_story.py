"""The demo's parts on a server without a model: the same verbs, in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.api import calibrate, simulate
from headway.core import NS_PER_S, Slo
from headway.demo.live_server import ServerError, serving
from headway.demo.mixed_load import Promises
from headway.demo.outcome import Outcome, page, table
from headway.demo.story import decode_step_ms
from headway.loadgen import BenchPlan, Endpoint, bench
from headway.timing import save_profile
from headway.workload import Independent, Merged, Poisson, Synthetic, Uniform

SIMULATED = ["--world=sim", "--gpu=h100"]


def _work(promises: Promises) -> Merged:
    shapes = Independent(Uniform(20, 200), Uniform(4, 12))
    chat = Synthetic(Poisson(8.0), shapes, 24, seed=3, slo=promises.chat)
    return Merged([chat, Synthetic(Poisson(3.0), shapes, 9, seed=4, slo=promises.report)])


def test_served_calibrated_forecast_and_measured(tmp_path: Path) -> None:
    log, profile = tmp_path / "run.jsonl", tmp_path / "profile.toml"
    promises = Promises(Slo("chat", ttft_ns=NS_PER_S), Slo("report", ttft_ns=60 * NS_PER_S))
    with serving([*SIMULATED, "--batching=sarathi"], log) as address:
        plan = BenchPlan(
            Endpoint(address, "", extra={"ignore_eos": True}),
            _work(promises),
            config={"request_rate": None, "burstiness": 1.0, "max_concurrency": None},
        )
        measured = bench(plan)
    calibrated = calibrate([log])
    save_profile(calibrated.profile, profile)
    assert 0 < decode_step_ms(calibrated.profile, 1) <= decode_step_ms(calibrated.profile, 16)
    forecast = simulate(batching="sarathi", profile=str(profile), workload=_work(promises))
    sides = {"summary": forecast.summary, "curves": forecast.curves}
    outcome = Outcome("sarathi", sides, measured)
    assert outcome.pair("slo_attainment", "chat") == (
        forecast.summary["by_class"]["chat"]["slo_attainment"],
        measured.summary["by_class"]["chat"]["slo_attainment"],
    )
    assert measured.summary["completed"] == 33
    assert table([outcome], promises, 11.0).row_count == 8
    assert "chat: TTFT 1,000 ms" in page([outcome], promises, 11.0)


def test_a_server_that_refuses_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerError, match="no_such_policy"),
        serving([*SIMULATED, "--batching=no_such_policy"], tmp_path / "run.jsonl"),
    ):
        pytest.fail("it must not be ready")
