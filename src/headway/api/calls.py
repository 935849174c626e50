"""The Python API: `headway.simulate` and `headway.compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence as Seq
from time import perf_counter
from typing import Any, Unpack

from headway.api.capacity_search import capacity as find_capacity
from headway.api.comparison import Choices, Comparison, PolicyChoice, compare_runs
from headway.api.result import Result
from headway.api.runner import Progress, run, with_capacity
from headway.api.scenario import Parts, Scenario, ScenarioOptions
from headway.core.protocols import TimingModel, Workload


def simulate(
    *,
    batching: PolicyChoice = "sarathi",
    ordering: PolicyChoice = "fcfs",
    memory: PolicyChoice = "recompute",
    speculation: PolicyChoice = "none",
    routing: PolicyChoice = "least_work",
    admission: PolicyChoice = "unbounded",
    control: PolicyChoice = "none",
    timing: TimingModel | None = None,
    workload: Workload | None = None,
    capacity: bool = False,
    target: float = 0.9,
    jobs: int = 1,
    progress: Progress | None = None,
    **scenario: Unpack[ScenarioOptions],
) -> Result:
    """Simulate serving a workload and return what it was worth.

    Policies are names, `pkg.mod:Class`, files, classes, factories or objects. `timing` and `workload`
    take the place of the model's roofline and of the described workload. `capacity` also searches for the
    highest rate at which a share `target` of the requests attain their SLO. The other keywords are the
    fields of `Scenario`.

    Raises:
        HeadwayError: something cannot be; one sentence says what and what to do.
    """
    policies: dict[str, PolicyChoice] = {
        "batching": batching,
        "ordering": ordering,
        "memory": memory,
        "speculation": speculation,
        "routing": routing,
        "admission": admission,
        "control": control,
    }
    names = {kind: choice for kind, choice in policies.items() if isinstance(choice, str)}
    objects = {kind: choice for kind, choice in policies.items() if not isinstance(choice, str)}
    described = Scenario.of({**_texts(scenario), **names})
    parts = Parts(timing, workload, objects)
    result = run(described, parts, progress)
    if not capacity:
        return result
    began = perf_counter()
    found = find_capacity(described, parts, target=target, jobs=jobs, progress=progress)
    return with_capacity(result, found.rate_rps, found.note, perf_counter() - began)


def compare(
    *,
    batching: PolicyChoice | Seq[PolicyChoice] = "all",
    ordering: PolicyChoice | Seq[PolicyChoice] = "fcfs",
    memory: PolicyChoice | Seq[PolicyChoice] = "recompute",
    speculation: PolicyChoice | Seq[PolicyChoice] = "none",
    routing: PolicyChoice | Seq[PolicyChoice] = "least_work",
    admission: PolicyChoice | Seq[PolicyChoice] = "unbounded",
    control: PolicyChoice | Seq[PolicyChoice] = "none",
    rates: Seq[str | float] = ("1x",),
    timing: TimingModel | None = None,
    workload: Workload | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
    **scenario: Unpack[ScenarioOptions],
) -> Comparison:
    """Simulate every combination of policies at every rate, all with the same requests.

    Each kind is one policy or a list of them; `all` is every shipped one. A rate is in requests per
    second, or `2x`: a multiple of the workload's. The other keywords are the fields of `Scenario`.

    Raises:
        HeadwayError: something cannot be; one sentence says what and what to do.
    """
    choices: Choices = {
        "batching": _listed(batching),
        "ordering": _listed(ordering),
        "memory": _listed(memory),
        "speculation": _listed(speculation),
        "routing": _listed(routing),
        "admission": _listed(admission),
        "control": _listed(control),
    }
    return compare_runs(
        Scenario.of(_texts(scenario)),
        choices,
        rates=rates,
        parts=Parts(timing, workload),
        jobs=jobs,
        progress=progress,
    )


def _texts(scenario: ScenarioOptions) -> Mapping[str, Any]:
    """One SLO may be given as a text."""
    given: dict[str, Any] = dict(scenario)
    if isinstance(given.get("slo"), str):
        given["slo"] = (given["slo"],)
    return given


def _listed(choice: PolicyChoice | Seq[PolicyChoice]) -> list[PolicyChoice]:
    return list(choice) if isinstance(choice, list | tuple) else [choice]
