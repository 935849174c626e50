"""What a measured run would have been under other policies, on another device, or with more of them.

Three columns: the run as it was measured; the same policies replayed with the calibrated step times, whose
distance from the first is the error to expect; and the changed run. Both replays get the same requests, the same
scatter and the same resamples, so that their difference is known better than either.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from headway.api.calibration import Run, calibrate_logs, calibrate_results, read_run
from headway.api.change import Change
from headway.api.judgement import METRICS, judge, relative
from headway.api.pages import as_text
from headway.api.policy_choices import label_of
from headway.api.replay import (
    DEFAULTS,
    MeasuredRun,
    Setting,
    faster,
    measured_log,
    measured_results,
)
from headway.api.resampling import (
    DRAWS,
    INTERVAL,
    Column,
    Draw,
    Forecast,
    differences,
    draw_column,
    forecasts,
)
from headway.api.runner import Progress
from headway.api.slo_text import SloBook, parse_slos
from headway.core import NO_SLO
from headway.core.protocols import TimingModel
from headway.errors import HeadwayError, OptionError
from headway.records import RunLog
from headway.runtime import load_policy
from headway.runtime.traits import step_tokens_of
from headway.timing import (
    Profile,
    Rescaled,
    Roofline,
    kv_capacity,
    load_device,
    load_model,
    load_profile,
)


@dataclass(frozen=True)
class WhatIf:
    """Metrics by name. `changed` and `difference` (changed / replayed - 1) are empty without a change."""

    requests: int
    measured: Mapping[str, float]
    replayed: Mapping[str, Forecast]
    changed: Mapping[str, Forecast]
    difference: Mapping[str, Forecast]
    title: str
    change: Seq[str]
    notes: tuple[str, ...]
    draws: int

    @property
    def error(self) -> dict[str, float]:
        """Replayed over measured, less 1."""
        return relative({name: one.value for name, one in self.replayed.items()}, self.measured)

    def view(self, width: int = 100) -> Any:
        """The table, as something that rich prints."""
        return importlib.import_module("headway.api.forecast_view").whatif_view(self, width)

    def table(self, width: int = 100) -> str:
        """The table as plain text."""
        return as_text(self.view(width), width)

    def html(self) -> str:
        """Return one self-contained page; needs plotly."""
        page: str = importlib.import_module("headway.api.forecast_page").whatif_page(self)
        return page

    def document(self) -> dict[str, Any]:
        """Everything as a dict ready for JSON; null where there is no number."""
        rows = {}
        for name, (_, unit) in METRICS.items():
            row: dict[str, Any] = {
                "unit": unit,
                "measured": _number(self.measured[name]),
                "replayed": _forecast(self.replayed[name]),
                "error": _number(self.error[name]),
            }
            if self.changed:
                row["changed"] = _forecast(self.changed[name])
                row["difference"] = _forecast(self.difference[name])
            rows[name] = row
        return {
            "title": self.title,
            "change": list(self.change),
            "requests": self.requests,
            "draws": self.draws,
            "interval": list(INTERVAL),
            "metrics": rows,
            "notes": self.notes,
        }

    def json(self) -> str:
        """`document` as JSON text."""
        return msgspec.json.format(msgspec.json.encode(self.document()), indent=2).decode()


def whatif(
    run: str | Path,
    change: Change | None = None,
    *,
    slo: Seq[str] = (),
    profile: str | Path | None = None,
    measured_gpu: str = "",
    measured_model: str = "",
    measured_blocks: int = 0,
    measured_options: Mapping[str, str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    progress: Progress | None = None,
) -> WhatIf:
    """Replay a run log (or another tool's result file, coarser) as it was, and with a change.

    `slo` takes the place of what was promised; `profile` that of step times calibrated from the run itself.
    `measured_*` say what a result file does not. Intervals are the 10th to the 90th percentile of `draws`.

    Raises:
        WorkloadError: a run that cannot be read or calibrated.
        UnknownNameError: no such policy, option, device or model.
        OptionError: an impossible value.
    """
    if draws < 2:
        raise OptionError(f"{draws} draws give no interval: use 2 or more, such as {DRAWS}")
    change = change or Change()
    read = read_run(Path(run))
    known, notes = _profile(read, profile, gpu=measured_gpu, model=measured_model)
    measured = _measured(
        read, parse_slos(slo) if slo else None, measured_blocks, measured_options or {}
    )
    notes = [*measured.notes, *notes]
    cases, setting = measured.cases, measured.setting
    if not any(case.request.slo.promises for case in cases):
        notes.append("nothing was promised, so that finishing is enough: say --slo for goodput")
    timing, changed, more = _changed(known, setting, change)
    notes += more
    new_cases = cases if change.rate_scale is None else faster(cases, change.rate_scale)
    before = Column(known, setting, cases, known, seed)
    rows = draw_column(before, draws, progress, 0, 2 if change.told else 1)
    changes: list[Draw] = []
    if change.told:
        after = Column(timing, changed, new_cases, known, seed)
        changes = draw_column(after, draws, progress, 1, 2)
    title = f"{known.model or 'unknown model'} on {known.device or 'unknown device'}"
    return WhatIf(
        sum(case.judged for case in cases),
        _as_measured(measured),
        forecasts(rows),
        forecasts(changes),
        forecasts(differences(changes, rows) if changes else ()),
        f"{title}: {_policies_told(setting)}",
        change.told,
        tuple(notes),
        draws,
    )


def _profile(
    run: Run, path: str | Path | None, *, gpu: str, model: str
) -> tuple[Profile, list[str]]:
    if path is not None:
        profile = load_profile(path)
        return profile, [f"step times from {path}, not from this run"]
    if isinstance(run, RunLog):
        made = calibrate_logs([run], "the run itself")
    else:
        made = calibrate_results(run, gpu=gpu, model=model)
    return made.profile, list(made.notes)


def _measured(
    run: Run, slos: SloBook | None, blocks: int, options: Mapping[str, str]
) -> MeasuredRun:
    if not isinstance(run, RunLog):
        slo = slos.default if slos else NO_SLO
        return measured_results(run, slo, blocks=blocks, options=options)
    if blocks or options:
        raise OptionError("a run log says its KV blocks and options itself: leave out --measured-…")
    return measured_log(run, slos)


def _as_measured(measured: MeasuredRun) -> dict[str, float]:
    told = judge(measured.cases, measured.times).metrics()
    if not measured.timed_tokens:
        told |= dict.fromkeys(("p50_itl_ms", "p99_itl_ms"), float("nan"))
    return told


def _changed(
    profile: Profile, setting: Setting, change: Change
) -> tuple[TimingModel, Setting, list[str]]:
    """Step times and setting after the change, and what to know of them."""
    notes: list[str] = []
    policies = {**DEFAULTS, **setting.policies, **change.policies}
    options = {
        key: value
        for key, value in setting.options.items()
        if key.rpartition(".")[0] not in change.policies  # they were the old policy's
    }
    blocks, timing = setting.blocks, profile
    made: TimingModel = timing
    if any((change.gpu, change.model, change.precision, change.tp)):
        made, blocks, notes = _elsewhere(profile, setting, change, policies["batching"])
    if change.kv_blocks is not None:
        blocks = change.kv_blocks
    after = replace(
        setting,
        policies=policies,
        options={**options, **change.options},
        instances=change.instances or setting.instances,
        blocks=blocks,
    )
    return made, after, notes


def _elsewhere(
    profile: Profile, setting: Setting, change: Change, batching: str
) -> tuple[TimingModel, int, list[str]]:
    """Measured times the ratio of two rooflines; as many KV blocks as fit there."""
    try:
        old_model, old_device = load_model(profile.model), load_device(profile.device)
    except HeadwayError as error:
        raise OptionError(
            f"the run was measured on {profile.device or 'an unknown device'} with "
            f"{profile.model or 'an unknown model'}, of which there are no sheets to compare with ({error}): "
            "for a result file, say --measured-gpu and --measured-model"
        ) from error
    new_model = load_model(change.model or profile.model, change.precision)
    new_device = load_device(change.gpu or profile.device)
    tp = change.tp or 1
    old = Roofline(old_model, old_device, block_tokens=setting.block_tokens)
    new = Roofline(new_model, new_device, tp, block_tokens=setting.block_tokens)
    step_tokens = step_tokens_of(load_policy("batching", batching, {}))
    capacity = kv_capacity(
        new_model, new_device, tp, step_tokens=step_tokens, block_tokens=setting.block_tokens
    )
    tell = f"{new_model.name} on {new_device.name}" + (f" × {tp}" if tp > 1 else "")
    notes = [
        (
            f"{tell} was not measured: measured step times are scaled by the ratio of its roofline to that of "
            f"{old_model.name} on {old_device.name}, whose own errors no interval shows"
        ),
    ]
    if change.kv_blocks is None:
        notes.append(f"KV there: the {capacity.blocks} blocks that fit; it was {setting.blocks}")
    return Rescaled(profile, old, new), capacity.blocks, notes


def _policies_told(setting: Setting) -> str:
    chosen = {**DEFAULTS, **setting.policies}
    return " + ".join(label_of(chosen[kind]) for kind in ("batching", "ordering", "memory"))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 6)


def _forecast(one: Forecast) -> dict[str, float | None]:
    return {"value": _number(one.value), "low": _number(one.low), "high": _number(one.high)}
