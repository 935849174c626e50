"""A measured run as a workload, and that workload under any policies and step times, token by token."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median_low

from headway.api.policy_choices import choose, label_of, options_by_kind
from headway.api.slo_text import SloBook
from headway.core import Request, Sequence, Slo, Step, StepResult
from headway.core.fleet import ABORTED, FINISHED_OK
from headway.core.protocols import ARRIVAL, TimingModel
from headway.errors import WorkloadError
from headway.records import RunLog
from headway.records.client_results import ClientResults
from headway.runtime import InstanceOptions
from headway.runtime.loader import KINDS
from headway.workload import Listed
from headway.worlds import Policies, Simulation

TokenTimes = dict[int, list[int]]
"""Request id -> times of its output tokens, in nanoseconds."""

_MANY_BLOCKS = 1 << 24


@dataclass(frozen=True, slots=True)
class Case:
    """One request of a measured run. `entered_ns`: when it reached the instance.

    Requests whose client gave up load the machine but are not `judged`: how they ended was not the system's
    choice.
    """

    request: Request
    entered_ns: int
    output_tokens: int
    judged: bool = True


@dataclass(frozen=True)
class NamedAnswers:
    """A `NameAnswer` out of a run log: a turn that continues an answer finds its blocks again."""

    answers: Mapping[int, tuple[int, ...]]

    def __call__(self, sequence: Sequence) -> tuple[int, ...]:
        """None of an answer that was cut short, and of a log without names."""
        return self.answers.get(sequence.id, ())


@dataclass(frozen=True)
class Setting:
    """Under what a workload is replayed."""

    blocks: int
    policies: Mapping[str, str] = field(default_factory=dict)  # kind -> name; default otherwise
    options: Mapping[str, str] = field(default_factory=dict)
    block_tokens: int = 16
    instances: int = 1
    leap: bool = True
    seed: int = 0
    names: NamedAnswers | None = None


DEFAULTS = {
    "batching": "sarathi",
    "ordering": "fcfs",
    "memory": "recompute",
    "speculation": "none",
    "routing": "least_work",
    "admission": "unbounded",
    "control": "none",
}


@dataclass(frozen=True)
class MeasuredRun:
    """What a run was, ready to be judged and replayed. Token times are of the judged and the others."""

    cases: list[Case]
    times: TokenTimes
    setting: Setting
    notes: tuple[str, ...]
    timed_tokens: bool = True  # each of them: else ITL was not measured


def named_answers(log: RunLog) -> NamedAnswers | None:
    """None of a log without names."""
    answers = {end.id: end.answer for end in log.ended if end.answer}
    return NamedAnswers(answers) if answers else None


def measured_log(log: RunLog, slos: SloBook | None = None) -> MeasuredRun:
    """Read a run log. `slos` take the place of what the clients were promised, by SLO class.

    Raises:
        WorkloadError: nobody asked for anything.
    """
    ends = {end.id: end for end in log.ended}
    times: TokenTimes = defaultdict(list)
    for step in log.steps:
        for work in step.works:
            if work.emitted:
                times[work.id] += [step.end_ns] * work.emitted
    known = [end.output_tokens for end in log.ended if end.outcome == FINISHED_OK]
    middle = median_low(known) if known else 1
    cases, others, open_ones = [], 0, 0
    for line in log.submitted:
        end = ends.get(line.id)
        if end is None:
            open_ones += 1  # the log stops before it: its length is not known
            continue
        gave_up = end.outcome.startswith(ABORTED)
        finished = end.outcome == FINISHED_OK
        others += not (finished or gave_up)
        length = end.output_tokens if finished or gave_up else middle
        del times.setdefault(line.id, [])[end.output_tokens :]  # what came out for nobody
        request = Request(
            line.id,
            line.arrival_ns,
            line.prompt_tokens,
            line.max_tokens,
            slos.classes.get(line.slo.name, slos.default) if slos else line.slo,
            line.tenant,
            line.session,
            prefix=line.prefix,
            next_extent=line.next_extent,
        )
        length = max(1, min(length, line.max_tokens))
        cases.append(Case(request, max(line.now_ns, line.arrival_ns), length, judged=not gave_up))
        if not finished and not gave_up:
            times.pop(line.id, None)  # shed or failed: never a whole answer
    if not cases:
        raise WorkloadError("no request of the run log has ended: nothing to replay")
    notes = []
    gave_up_count = sum(not case.judged for case in cases)
    if gave_up_count:
        notes.append(
            f"{gave_up_count} requests whose clients gave up load the machine and are not judged"
        )
    if others:
        notes.append(
            f"{others} requests were shed, returned or failed: misses as measured; replayed, their answers "
            f"have the median length, {middle} tokens"
        )
    if open_ones:
        notes.append(f"{open_ones} requests had not ended when the log stopped: left out")
    told = {request_id: mine for request_id, mine in times.items() if mine}
    return MeasuredRun(cases, told, _setting_of(log), tuple(notes))


def _setting_of(log: RunLog) -> Setting:
    opened, names = log.opened, named_answers(log)
    size = opened.block_tokens
    return Setting(opened.blocks, opened.policies, opened.options, size, names=names)


def measured_results(
    results: ClientResults,
    slo: Slo,
    *,
    blocks: int = 0,
    options: Mapping[str, str] | None = None,
) -> MeasuredRun:
    """The same of a client's result file, which knows neither policies nor memory.

    Where single tokens were not timed, they are taken to have come evenly.
    """
    cases, times = [], {}
    for n, one in enumerate(results.requests):
        request = Request(n, one.arrival_ns, one.prompt_tokens, one.output_tokens, slo)
        cases.append(Case(request, one.arrival_ns, one.output_tokens))
        span, gaps = one.last_ns - one.first_ns, max(1, one.output_tokens - 1)
        times[n] = list(one.token_times_ns) or [
            one.first_ns + span * k // gaps for k in range(one.output_tokens)
        ]
    notes = [
        f"{results.tool} knows no policies: sarathi, fcfs and recompute are assumed where none are given"
    ]
    if not blocks:
        notes.append("KV memory is taken to be unlimited: say --measured-blocks")
    timed = all(one.token_times_ns for one in results.requests)
    if not timed:
        notes.append("single tokens were not timed: there is no measured ITL")
    if results.failed:
        notes.append(f"{results.failed} requests that failed are left out")
    setting = Setting(blocks or _MANY_BLOCKS, options=dict(options or {}))
    return MeasuredRun(cases, times, setting, tuple(notes), timed)


def faster(cases: Seq[Case], factor: float) -> list[Case]:
    """The same requests, arriving `factor` times as fast."""
    start = min(case.request.arrival_ns for case in cases)

    def moved(time_ns: int) -> int:
        return start + round((time_ns - start) / factor)

    return [
        replace(
            case,
            request=replace(case.request, arrival_ns=moved(case.request.arrival_ns)),
            entered_ns=moved(case.request.arrival_ns) + case.entered_ns - case.request.arrival_ns,
        )
        for case in cases
    ]


class _Tokens:
    """Implements `Sink`: keeps token times."""

    def __init__(self) -> None:
        self.times: TokenTimes = defaultdict(list)
        self.outcomes: dict[int, str] = {}

    def on_tokens(self, step: Step, result: StepResult) -> None:
        leapt = len(result.ends_ns) > 1
        for work, done in zip(step.work, result.done, strict=True):
            if done.emitted:
                times = result.ends_ns if leapt else [result.ends_ns[0]] * done.emitted
                self.times[work.sequence.id] += times

    def on_end(
        self, request: Request, sequence: Sequence | None, outcome: str, now_ns: int
    ) -> None:
        self.outcomes[request.id] = outcome


def simulation_of(setting: Setting, timing: TimingModel, sink: _Tokens) -> Simulation:
    """Put the fleet of a setting together.

    Raises:
        UnknownNameError: no such policy or option.
    """
    named = {kind: setting.policies.get(kind, DEFAULTS[kind]) for kind in KINDS}
    options = options_by_kind(
        setting.options, {kind: label_of(name) for kind, name in named.items()}, strict=False
    )
    makes = {kind: choose(kind, named[kind], options[kind]).make for kind in KINDS}
    return Simulation(
        timing,
        Policies(
            makes["batching"],
            makes["ordering"],
            makes["memory"],
            makes["routing"](),
            makes["admission"](),
            makes["speculation"],
            makes["control"](),
        ),
        InstanceOptions(
            setting.blocks, setting.block_tokens, leap=setting.leap, names=setting.names
        ),
        sink,
        instances=setting.instances,
        seed=setting.seed,
    )  # fmt: skip


def replay(cases: Seq[Case], setting: Setting, timing: TimingModel) -> TokenTimes:
    """Offer the same requests at the same times; return when their tokens come. Unfinished ones are missing.

    Raises:
        HeadwayError: a policy that cannot be made, or that returned an impossible plan.
    """
    sink = _Tokens()
    simulation = simulation_of(setting, timing, sink)
    for case in cases:
        submit = partial(_submit, simulation, case)
        simulation.clock.call_at(case.entered_ns, submit, ARRIVAL, case.request.id)
    simulation.run(Listed(()))
    for instance in simulation.instances:
        if instance.stopped is not None:
            raise instance.stopped
    return {
        request_id: times
        for request_id, times in sink.times.items()
        if sink.outcomes.get(request_id) == FINISHED_OK
    }


def _submit(simulation: Simulation, case: Case) -> None:
    """As the simulation does with an offer, but later than its arrival: it had to travel."""
    simulation.lengths.output_tokens[case.request.id] = case.output_tokens
    simulation.fleet.submit(case.request)
