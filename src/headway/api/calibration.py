"""From what was measured to a profile: run logs of our own, or the result files of other tools."""

from __future__ import annotations

import importlib
from collections.abc import Sequence as Seq
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from headway.api.client_fit import fit_client_results
from headway.api.pages import as_text
from headway.api.step_fit import fit_profile
from headway.api.step_samples import Sample, samples_of
from headway.core import Request, Sequence, Transfer
from headway.core.plan import SWAP_OUT
from headway.errors import HeadwayError, OptionError, WorkloadError
from headway.records import Opened, RunLog, read_run_log
from headway.records.client_results import ClientResults, read_client_results
from headway.timing import Profile, Roofline, load_device, load_model

Run = RunLog | ClientResults

_FEW_STEPS = 300


@dataclass(frozen=True)
class Calibration:
    """A profile and what to know of it."""

    profile: Profile
    notes: tuple[str, ...]

    def view(self, width: int = 100) -> Any:
        """Return the errors by kind of step and the coefficients, as something that rich prints."""
        view = importlib.import_module("headway.api.forecast_view").calibration_view
        return view(self.profile, self.notes, width)

    def table(self, width: int = 100) -> str:
        """The same as plain text."""
        return as_text(self.view(width), width)

    def json(self) -> str:
        """Everything as JSON text."""
        document = {"profile": asdict(self.profile), "notes": self.notes}
        return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def calibrate(
    paths: Seq[str | Path], *, gpu: str = "", model: str = "", warmup: int = 0
) -> Calibration:
    """Fit a profile to run logs of one model on one device, or to one result file of another tool.

    `gpu` and `model` name what a result file does not say; of a run log they are known. Steps that began before the
    first `warmup` requests of a log had ended are left out: what a process does for the first time takes longer.

    Raises:
        WorkloadError: a file that cannot be read, or with too little in it.
        OptionError: files that do not belong together.
        MissingExtraError: scipy is not installed.
    """
    if not paths:
        raise OptionError("no file to calibrate with: give a run log")
    runs = [read_run(Path(path)) for path in paths]
    source = ", ".join(Path(path).name for path in paths)
    logs = [run for run in runs if isinstance(run, RunLog)]
    if len(logs) == len(runs):
        return calibrate_logs(logs, source, warmup)
    if warmup:
        raise OptionError(
            f"a warm-up of {warmup} requests is left out of run logs, not of {source}: go without"
        )
    if len(runs) > 1:
        raise OptionError(
            f"{len(runs)} files of which not all are run logs: give run logs, or one result file"
        )
    assert isinstance(runs[0], ClientResults)
    return calibrate_results(runs[0], gpu=gpu, model=model)


def read_run(path: Path) -> Run:
    """Read a run log, or else a result file of another tool.

    Raises:
        WorkloadError: neither.
    """
    try:
        return read_run_log(path)
    except WorkloadError:
        with_tag = _is_log(path)
        if with_tag:
            raise
        return read_client_results(path)


def calibrate_logs(logs: Seq[RunLog], source: str, warmup: int = 0) -> Calibration:
    """Fit all steps of the logs together, but for each one's warm-up of so many requests.

    Raises:
        WorkloadError: too few steps.
        OptionError: logs of different models or devices.
    """
    opened = logs[0].opened
    for log in logs[1:]:
        other = log.opened
        if _what(other) != _what(opened):
            raise OptionError(
                f"one log is of {_what(other)} and another of {_what(opened)}: calibrate them one by one"
            )
    every = [samples_of(log, warmup) for log in logs]
    steps: list[Sample] = [sample for samples in every for sample in samples.steps]
    gaps = sum(samples.gaps for samples in every)
    gap_ns = sum(samples.gap_ns * samples.gaps for samples in every) / max(1, gaps)
    profile = fit_profile(
        steps,
        model=opened.model,
        device=opened.device,
        dtype=opened.dtype,
        layers=opened.layers,
        blocks=opened.blocks,
        block_tokens=opened.block_tokens,
        gap_ns=gap_ns,
        source=source,
    )
    notes = []
    left_out = sum(samples.left_out for samples in every)
    if left_out:
        notes.append(
            f"{left_out} steps left out: interrupted, failed, of some layers, or side by side"
        )
    if warming := sum(samples.warming for samples in every):
        notes.append(f"{warming} steps of the warm-up left out")
    if len(steps) < _FEW_STEPS:
        notes.append(
            f"{len(steps)} steps are few: the errors are rough, a longer run gives better ones"
        )
    if not gaps:
        notes.append(
            "no two steps followed each other at once: the gap between steps is taken as 0"
        )
    kinds = {sample.shape.kind for sample in steps}
    if kinds == {"decode"} or "decode" not in kinds:
        notes.append(f"all steps are {' and '.join(sorted(kinds))}: other kinds are guessed")
    return Calibration(_with_transfers(profile), tuple(notes))


def calibrate_results(results: ClientResults, *, gpu: str = "", model: str = "") -> Calibration:
    """Fit requests as a client saw them: coarser.

    Raises:
        WorkloadError: too few requests.
        UnknownNameError: no such model or device.
    """
    layers = load_model(model).layers if model else 1
    device = load_device(gpu).name if gpu else ""
    profile = fit_client_results(results, device=device, layers=layers)
    if model:
        profile = replace(profile, model=load_model(model).name)
    seen = f"{len(results.requests)} requests as {results.tool} saw them"
    notes = [f"coarse: fitted to {seen} from outside, not to steps"]
    if results.failed:
        notes.append(f"{results.failed} requests left out: they failed or lack times")
    if not model or not gpu:
        notes.append(
            "neither file nor flags name model and device: give --model and --gpu for their KV"
        )
    return Calibration(_with_transfers(profile), tuple(notes))


def _with_transfers(profile: Profile) -> Profile:
    """Steps say nothing of transfers: their time comes from the sheets, where there are sheets."""
    try:
        model, device = load_model(profile.model), load_device(profile.device)
    except HeadwayError:
        return profile
    roofline = Roofline(model, device, block_tokens=profile.block_tokens)
    one = Transfer(0, SWAP_OUT, Sequence(Request(0, 0, 1, 1)), 1000)
    return replace(profile, block_ns=roofline.transfer_ns(one) / 1000)


def _what(opened: Opened) -> str:
    return f"{opened.model} ({opened.dtype}, {opened.layers} layers) on {opened.device}"


def _is_log(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b'"opened"' in file.readline(1 << 16)
    except OSError:
        return True  # its message is the better one
