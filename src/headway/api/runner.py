"""Run a scenario: assemble, offer everything, and read what came out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import Any

from headway.api.assembly import Assembled, assemble
from headway.api.result import Result, meta_of
from headway.api.run_energy import run_energy
from headway.api.scenario import NO_PARTS, Parts, Scenario
from headway.api.workload_of import requests_of
from headway.core import Request
from headway.errors import DoesNotFitError, PlanError, WorkloadError
from headway.metrics import Recorder, summarise
from headway.metrics.recorder import COLUMNS
from headway.timing import Energy

Progress = Callable[[str, float, float | None], None]
"""Hears (what is going on, how much is done, how much there is or None)."""

_TOLD_EVERY = 50  # requests


def run(scenario: Scenario, parts: Parts = NO_PARTS, progress: Progress | None = None) -> Result:
    """Simulate a scenario to its end.

    Raises:
        HeadwayError: whatever `assemble` refuses, a bad line in a trace, a policy that failed, or that no request fits.
    """
    began = perf_counter()
    assembled = assemble(scenario, parts)
    total = None if parts.workload is not None else requests_of(scenario)
    recorder, clock = assembled.recorder, assembled.simulation.clock
    assembled.simulation.run(assembled.workload, on_offer=_listener(recorder, total, progress))
    _check(assembled)
    energy = run_energy(assembled, clock.now_ns())
    summary = summarise(
        recorder,
        energy_j=None if energy is None else round(energy.total_j, 3),
        quality=scenario.quality,
    )
    return Result(
        scenario=scenario,
        summary=summary,
        config=assembled.config,
        provenance=_provenance(assembled, energy),
        notes=tuple(_notes(assembled, summary)),
        meta=meta_of(perf_counter() - began),
        recorder=recorder,
    )


def with_capacity(result: Result, capacity_rps: float | None, note: str, wall_s: float) -> Result:
    """The same result with the capacity that was searched for."""
    summary = result.summary | {"capacity_rps": capacity_rps}
    meta = dict(result.meta) | {"capacity_wall_s": round(wall_s, 3)}
    notes = (*result.notes, note) if note else result.notes
    return replace(result, summary=summary, notes=notes, meta=meta)


def _listener(
    recorder: Recorder, total: int | None, progress: Progress | None
) -> Callable[[Request], None]:
    if progress is None:
        return recorder.on_offer
    heard, tell = recorder.on_offer, progress

    def on_offer(request: Request) -> None:
        heard(request)
        if recorder.offered % _TOLD_EVERY == 0:
            tell("simulating", recorder.offered, total)

    return on_offer


def _check(assembled: Assembled) -> None:
    """Refuse a run that says nothing."""
    recorder, rejections = assembled.recorder, assembled.sink.reasons
    if not recorder.offered:
        raise WorkloadError("the workload offered no request: give another trace or more requests")
    for instance in assembled.simulation.instances:
        if instance.stopped is not None:
            raise instance.stopped
    fleet = assembled.simulation.fleet
    if fleet.control_error or fleet.moves.hand_over_error:
        raise PlanError(fleet.control_error or fleet.moves.hand_over_error)
    rejected = sum(rejections.values())
    if rejected == recorder.offered and recorder.steps == 0:
        reason, _ = max(rejections.items(), key=lambda item: item[1])
        raise DoesNotFitError(f"all {rejected} requests were rejected, the first because: {reason}")


def _provenance(assembled: Assembled, energy: Energy | None) -> dict[str, str]:
    said: dict[str, str] = {}
    if assembled.modelled:
        said["step_times"] = (
            f"roofline of the sheets {assembled.model.name} and {assembled.device.name}, not calibrated"
        )
    else:
        said["step_times"] = f"the timing model {assembled.config['timing']} that was handed in"
    if assembled.model.approximate:
        said["model"] = f"approximate: {assembled.model.approximate}"
    if assembled.device.from_memory:
        said["device"] = f"not from a datasheet: {', '.join(assembled.device.from_memory)}"
    if energy is None:
        said["energy_j"] = "unknown"
    else:
        kind = "a prior guessed from the datasheet, not measured" if energy.prior else "calibrated"
        said["energy_j"] = kind + ("; at the power limit all the time" if energy.capped else "")
    said["quality"] = "unknown" if assembled.scenario.quality is None else "as given"
    return said


def _notes(assembled: Assembled, summary: dict[str, Any]) -> list[str]:
    notes = [
        f"{count} of {summary['offered']} requests rejected: {reason}"
        for reason, count in assembled.sink.reasons.items()
    ]
    if assembled.simulation.instances[0].speculation is not None:
        notes += _wishes(assembled)
    rows = assembled.recorder.rows()
    at = {name: index for index, name in enumerate(COLUMNS)}
    longest = assembled.model.max_context
    beyond = int((rows[:, at["prompt"]] + rows[:, at["output"]] > longest).sum())
    if beyond:
        notes.append(
            f"{beyond} of {summary['offered']} requests are longer than the {longest} tokens "
            f"{assembled.model.name} was made for; they were served all the same"
        )
    classes = assembled.config["slo"] or []
    named = {text.removeprefix("class:").rpartition(":")[0] for text in classes} - {""}
    unseen = sorted(named - set(summary["by_class"]))
    if unseen:
        notes.append(f"no request has SLO class {' or '.join(unseen)}")
    return notes


def _wishes(assembled: Assembled) -> list[str]:
    """What a run with drafts takes for granted where nobody said better."""
    scenario, notes = assembled.scenario, []
    if scenario.draft_model is None and assembled.modelled:
        notes.append("making drafts is taken to cost nothing: give a draft model")
    if scenario.acceptance is None:
        notes.append(
            "any number of right drafts is taken to be as likely as any other: give an acceptance"
        )
    return notes
