"""Policies side by side: every combination at every rate sees the same requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence as Seq
from dataclasses import dataclass
from itertools import product
from time import perf_counter
from typing import Any

import msgspec

from headway.api.assembly import labels
from headway.api.pages import as_text, compare_page, compare_view
from headway.api.parallel import Workers
from headway.api.policy_choices import label_of
from headway.api.quantities import positive
from headway.api.result import meta_of
from headway.api.runner import Progress, run
from headway.api.scenario import NO_PARTS, Parts, Scenario
from headway.api.workload_of import rate_of
from headway.errors import DoesNotFitError, UnknownNameError
from headway.runtime import policy_names
from headway.runtime.loader import KINDS

PolicyChoice = str | type | object
Choices = Mapping[str, Seq[PolicyChoice]]


@dataclass(frozen=True)
class Comparison:
    """Runs side by side. A row has the five policies, `rate_rps`, and the run's `summary`.

    `failures` are combinations that could not run, with the reason.
    """

    rows: tuple[dict[str, Any], ...]
    failures: tuple[tuple[str, str], ...]
    config: Mapping[str, Any]  # what all runs share
    meta: Mapping[str, Any]

    @property
    def title(self) -> str:
        """What was compared, in one line."""
        config = self.config
        instances = f"{config['instances']} × " if config["instances"] > 1 else ""
        return f"{config['model']} on {instances}{config['gpu']}: policies compared"

    def table(self, width: int = 120) -> str:
        """One row a run, as plain text."""
        return as_text(self.view(width), width)

    def view(self, width: int = 120) -> Any:
        """The same table as something that rich prints."""
        return compare_view(self.title, self.rows, self.failures, width)

    def html(self, title: str | None = None) -> str:
        """Return one self-contained page with fronts; needs plotly."""
        return compare_page(self.rows, title or self.title)

    def document(self) -> dict[str, Any]:
        """All of it as one dict ready for JSON."""
        failures = [{"policies": who, "reason": why} for who, why in self.failures]
        return {"rows": self.rows, "failures": failures, "config": self.config, "meta": self.meta}

    def json(self, *, meta: bool = True) -> str:
        """`document` as JSON text; without `meta`, equal comparisons give equal bytes."""
        document = self.document()
        if not meta:
            del document["meta"]
        return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


@dataclass(frozen=True, slots=True)
class _Job:
    scenario: Scenario
    parts: Parts
    rate_rps: float | None


def compare_runs(
    scenario: Scenario,
    choices: Choices,
    *,
    rates: Seq[str | float] = ("1x",),
    parts: Parts = NO_PARTS,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Comparison:
    """Run every combination of `choices` (kind -> policies; `all` for every shipped one) at every rate.

    A rate is in requests per second, or `2x`: a multiple of the scenario's.

    Raises:
        HeadwayError: a name or value is wrong, or no combination could run.
    """
    began = perf_counter()
    planned = [
        _Job(at.at(rate_rps=rate, rate_scale=1.0) if rate else at, those, rate)
        for at, those in combinations(scenario, choices, parts)
        for rate in _rates(scenario, parts, rates)
    ]
    done: list[dict[str, Any] | DoesNotFitError | None] = [None] * len(planned)
    with Workers(jobs) as workers:
        for count, (index, outcome) in enumerate(workers.each(_row, planned), 1):
            done[index] = outcome
            if progress is not None:
                progress("comparing", count, len(planned))
    rows = [row for row in done if isinstance(row, dict)]
    if not rows:
        raise next(error for error in done if isinstance(error, DoesNotFitError))
    failures = [
        (" + ".join(labels(job.scenario, job.parts).values()), str(error))
        for job, error in zip(planned, done, strict=True)
        if isinstance(error, DoesNotFitError)
    ]
    shared = planned[0].scenario.echo() | {"rate_rps": scenario.rate_rps}
    for kind in (*KINDS, "rate_scale"):
        del shared[kind]
    return Comparison(tuple(rows), tuple(failures), shared, meta_of(perf_counter() - began))


def combinations(
    scenario: Scenario, choices: Choices, parts: Parts
) -> Iterator[tuple[Scenario, Parts]]:
    """One scenario for each combination, with the options that concern it.

    Raises:
        UnknownNameError: an option of a policy that takes part in no combination.
    """
    usual = {kind: (parts.policies.get(kind, getattr(scenario, kind)),) for kind in KINDS}
    lists = [_expanded(kind, choices.get(kind) or usual[kind]) for kind in KINDS]
    everybody = {
        label_of(choice) for options in lists for choice in options if isinstance(choice, str)
    }
    for key in scenario.options:
        owner = key.rpartition(".")[0]
        if owner not in everybody and owner not in KINDS:
            raise UnknownNameError.among(
                "policy kind or chosen policy", owner, {*everybody, *KINDS}
            )
    for combination in product(*lists):
        chosen = dict(zip(KINDS, combination, strict=True))
        names = {kind: choice for kind, choice in chosen.items() if isinstance(choice, str)}
        objects = {kind: choice for kind, choice in chosen.items() if not isinstance(choice, str)}
        mine = {label_of(name) for name in names.values()} | set(KINDS)
        options = {
            key: value for key, value in scenario.options.items() if key.rpartition(".")[0] in mine
        }
        yield (
            scenario.at(options=options, **names),
            Parts(parts.timing, parts.workload, objects),
        )


def _expanded(kind: str, chosen: Seq[PolicyChoice]) -> list[PolicyChoice]:
    found: list[PolicyChoice] = []
    for choice in (chosen,) if isinstance(chosen, str) else chosen:
        found += policy_names(kind) if choice == "all" else [choice]
    return list(dict.fromkeys(found)) if all(isinstance(one, str) for one in found) else found


def _rates(scenario: Scenario, parts: Parts, rates: Seq[str | float]) -> list[float | None]:
    """Nominal rates; None where the workload knows no rate or goes at its own."""
    if parts.workload is not None or scenario.concurrency is not None:
        return [None]
    return [_rate(scenario, rate) for rate in rates]


def _rate(scenario: Scenario, rate: str | float) -> float:
    if isinstance(rate, str) and rate.strip().lower().endswith("x"):
        return rate_of(scenario) * positive("rates", rate.strip()[:-1])
    return positive("rates", rate)


def _row(job: _Job) -> dict[str, Any] | DoesNotFitError:
    try:
        result = run(job.scenario, job.parts)
    except DoesNotFitError as error:  # of this combination; the others go on
        return error
    rate = result.summary["offered_rps"] if job.rate_rps is None else job.rate_rps
    policies = {kind: result.config[kind] for kind in KINDS}
    return {**policies, "rate_rps": rate, "summary": result.summary, "notes": result.notes}
