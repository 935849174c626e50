"""Calibration: what a fit recovers from logs and result files, and what it says of itself."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from headway.api.calibration import calibrate
from headway.api.step_samples import samples_of
from headway.core import Step, Transfer
from headway.errors import OptionError, WorkloadError
from headway.records import Opened, RunLogWriter, Stepped, WorkLine, read_run_log
from headway.timing import Pieces, Profile, Scattered, load_profile, save_profile
from headway.timing.profile_shape import shape_of

from .logged_runs import some_requests, write_log

TRUTH = Profile(
    model="gemma-3-270m",
    device="cpu",
    layers=18,
    base_ns=4e6,
    decodes=Pieces((4,), (3e5, 1e5)),
    tokens=Pieces((), (2e4,)),
    context_ns=300.0,
    pair_ns=12.0,
    row_ns=2e5,
)
SHAPES = (
    [(1, 300, 1)],
    [(1, 200, 1)] * 6,
    [(400, 0, 1)],
    [(1, 150, 1)] * 4 + [(128, 256, 0)],
)


class _Spiky:
    """A machine that now and then pauses."""

    def __init__(self, timing: Profile) -> None:
        self._timing, self._rng, self.layers = timing, random.Random(5), timing.layers

    def durations_ns(self, step: Step, repeats: int) -> list[int]:
        return [
            time_ns * (40 if self._rng.random() < 0.01 else 1)
            for time_ns in self._timing.durations_ns(step, repeats)
        ]

    def chunk_time_ns(self, tokens: int, context_tokens: int) -> int:
        return self._timing.chunk_time_ns(tokens, context_tokens)

    def transfer_ns(self, transfer: Transfer) -> int:
        return self._timing.transfer_ns(transfer)


def test_a_fit_recovers_the_times_it_was_made_of(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    write_log(path, TRUTH, some_requests(60), blocks=2000)
    made = calibrate([path]).profile
    for works in SHAPES:
        assert made.shape_ns(shape_of(works)) == pytest.approx(
            TRUTH.shape_ns(shape_of(works)), rel=1e-3
        )
    assert made.fit["all"].mape < 1e-3
    assert (made.base_ns, made.context_ns, made.pair_ns) == pytest.approx((4e6, 300, 12), rel=0.01)


def test_a_fit_recovers_them_within_the_noise_and_says_how_large_it_is(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    factors = [0.85 + 0.015 * n for n in range(21)]  # evenly from 0.85 to 1.15
    write_log(path, Scattered(TRUTH, factors, seed=4), some_requests(150), blocks=2000)
    made = calibrate([path]).profile
    for works in SHAPES:
        assert made.shape_ns(shape_of(works)) == pytest.approx(
            TRUTH.shape_ns(shape_of(works)), rel=0.05
        )
    assert made.fit["all"].mape == pytest.approx(0.075, abs=0.02)
    assert made.residuals[0] < 0.9
    assert made.residuals[-1] > 1.1


def test_pauses_of_the_machine_do_not_bend_the_slopes(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    write_log(path, _Spiky(TRUTH), some_requests(100, gap_ms=60), blocks=2000)
    made = calibrate([path]).profile
    for works in SHAPES:
        assert made.shape_ns(shape_of(works)) == pytest.approx(
            TRUTH.shape_ns(shape_of(works)), rel=0.02
        )


class _HeldUp(_Spiky):
    """A machine that others use as well: every seventh step takes three times as long."""

    def durations_ns(self, step: Step, repeats: int) -> list[int]:
        return [
            time_ns * (3 if self._rng.random() < 1 / 7 else 1)
            for time_ns in self._timing.durations_ns(step, repeats)
        ]


def test_other_programs_work_is_in_the_residuals_not_in_the_cost_of_a_step(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    write_log(path, _HeldUp(TRUTH), some_requests(100, gap_ms=60), blocks=2000)
    made = calibrate([path]).profile
    for works in SHAPES:
        assert made.shape_ns(shape_of(works)) == pytest.approx(
            TRUTH.shape_ns(shape_of(works)), rel=0.02
        )
    assert made.residuals[-1] == pytest.approx(3, rel=0.02)


class _Cold(_Spiky):
    """A process that takes twice as long until the first requests have ended."""

    def __init__(self, timing: Profile, cold: int) -> None:
        super().__init__(timing)
        self._cold = cold

    def durations_ns(self, step: Step, repeats: int) -> list[int]:
        first = any(work.sequence.id < self._cold for work in step.work)
        return [time_ns * (1 + first) for time_ns in self._timing.durations_ns(step, repeats)]


def test_a_warm_up_is_left_out_of_the_fit(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    write_log(path, _Cold(TRUTH, 20), some_requests(120, gap_ms=60), blocks=2000)
    warm, cold = calibrate([path], warmup=20), calibrate([path])
    for works in SHAPES:
        truth_ns = TRUTH.shape_ns(shape_of(works))
        assert warm.profile.shape_ns(shape_of(works)) == pytest.approx(truth_ns, rel=0.03)
        assert cold.profile.shape_ns(shape_of(works)) > 1.1 * truth_ns
    left_out = cold.profile.steps - warm.profile.steps
    assert left_out > 0
    assert f"{left_out} steps of the warm-up left out" in warm.notes
    with pytest.raises(WorkloadError, match="the warm-up: record a longer run"):
        calibrate([path], warmup=120)


def test_the_gap_between_steps_is_measured_where_there_was_work_all_along(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    lines = [Opened("m", "d", "fp32", 2, 10, 16, {})]
    now = 0
    with path.open("wb") as file:
        writer = RunLogWriter(file)
        writer.write(lines[0])
        for n in range(60):
            request, context = divmod(n, 20)
            now += 5_000_000_000 if context == 0 else 700  # idle before each request
            works = (WorkLine(request, context, 1, 1),)
            writer.write(Stepped(n, "main", now, now + 10_000, works))
            now += 10_000
    assert samples_of(read_run_log(path)).gap_ns == 700
    made = calibrate([path]).profile
    assert made.gap_ns == 700
    assert made.shape_ns(shape_of([(1, 5, 1)])) == pytest.approx(10_700, rel=1e-3)


def test_several_logs_are_fitted_together_and_must_be_of_one_kind(tmp_path: Path) -> None:
    one, two, other = (tmp_path / name for name in ("1.jsonl", "2.jsonl", "3.jsonl"))
    write_log(one, TRUTH, some_requests(20, seed=1))
    write_log(two, TRUTH, some_requests(20, seed=2))
    write_log(other, TRUTH, some_requests(5), device="h100")
    both = calibrate([one, two]).profile
    assert both.steps == sum(len(read_run_log(path).steps) for path in (one, two))
    with pytest.raises(OptionError, match="one by one"):
        calibrate([one, other])


def test_too_little_to_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    write_log(path, TRUTH, some_requests(1)[:1])
    path.write_bytes(b"\n".join(path.read_bytes().splitlines()[:12]) + b"\n")
    with pytest.raises(WorkloadError, match="record a longer run"):
        calibrate([path])
    with pytest.raises(WorkloadError, match="cannot read"):
        calibrate([tmp_path / "absent.jsonl"])
    with pytest.raises(OptionError, match="give a run log"):
        calibrate([])


def test_a_calibration_prints_itself_and_its_profile_can_be_saved(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    write_log(path, TRUTH, some_requests(40))
    made = calibrate([path])
    save_profile(made.profile, tmp_path / "p.toml")
    assert load_profile(tmp_path / "p.toml") == made.profile
    assert "MAPE" in made.table(120)
    document = msgspec.json.decode(made.json())
    assert document["profile"]["base_ns"] == made.profile.base_ns
    assert replace(made.profile, block_ns=0.0) != made.profile  # the cpu and the model have sheets
