"""Tell the story on a terminal, and as a page."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from headway.api import calibrate, simulate
from headway.core import NS_PER_MS
from headway.core.protocols import Workload
from headway.demo.live_server import serving
from headway.demo.mixed_load import Promises, calibration, overload
from headway.demo.outcome import Outcome, page, table
from headway.loadgen import BenchPlan, Endpoint, Measured, bench
from headway.timing import Profile, save_profile
from headway.timing.profile_shape import shape_of

BUDGET = 128  # tokens of a step: a chunk of a report beside everybody's next token
FIRST_RATE_RPS = 2.5
TYPICAL_CONTEXT = 100  # tokens
OVERLOADED = 1.4  # times what the first policy holds, by the forecast


@dataclass(frozen=True)
class Policy:
    """One way to serve: what it is called, and its choices."""

    name: str
    batching: str
    ordering: str
    options: Mapping[str, str]

    @property
    def flags(self) -> list[str]:
        """As `headway serve` takes them."""
        settings = [f"--set={key}={value}" for key, value in self.options.items()]
        return [f"--batching={self.batching}", f"--ordering={self.ordering}", *settings]


BEFORE = Policy("prefill_first + fcfs", "prefill_first", "fcfs", {})
AFTER = Policy(
    "sarathi + earliest_deadline",
    "sarathi",
    "earliest_deadline",
    {"sarathi.token_budget": str(BUDGET)},
)

Tell = Callable[[str, float, float | None], None]


def tell(console: Console, html: Path) -> None:
    """Serve, calibrate, forecast, run, compare; `html` gets the page."""
    with (
        tempfile.TemporaryDirectory(prefix="headway-demo-") as folder,
        Progress(
            *Progress.get_default_columns(), TimeElapsedColumn(), console=console, transient=True
        ) as bar,
    ):
        task = bar.add_task("", total=None)

        def progress(what: str, done: float, total: float | None) -> None:
            bar.update(task, description=what, completed=done, total=total)

        outcomes, promises, rate = _run(console, Path(folder), progress)
    console.print(table(outcomes, promises, rate))
    for sentence in _verdict(outcomes):
        console.print(sentence)
    html.parent.mkdir(parents=True, exist_ok=True)
    html.write_text(page(outcomes, promises, rate), encoding="utf-8")
    console.print(f"The same with distributions: {html}")


def _run(console: Console, folder: Path, progress: Tell) -> tuple[list[Outcome], Promises, float]:
    console.print(
        "[bold]1. A real model behind an OpenAI API[/]: `headway serve` with Gemma-3-270M on this CPU, under "
        f"{AFTER.name}. A short run, and `headway calibrate` on its log."
    )
    profile_file = folder / "profile.toml"
    with _served(AFTER, folder / "after.jsonl", progress) as address:
        _measure(address, calibration(FIRST_RATE_RPS), progress, "a short run to calibrate on")
        calibrated = calibrate([folder / "after.jsonl"])
        save_profile(calibrated.profile, profile_file)
        console.print(_profile_sentence(calibrated.profile))
        promises, rate = _overload_of(calibrated.profile, profile_file, progress)
        work = overload(rate, promises)
        forecasts = {
            policy.name: _forecast(policy, work, profile_file) for policy in (BEFORE, AFTER)
        }
        console.print(
            f"[bold]2. The simulator forecasts[/] {rate:.1f} requests/s of chat and reports, {OVERLOADED} times what "
            f"{BEFORE.name} holds, under both policies. [bold]3. Then both run for real.[/]"
        )
        after = _measure(address, work, progress, f"for real: {AFTER.name}")
    with _served(BEFORE, folder / "before.jsonl", progress) as address:
        before = _measure(address, work, progress, f"for real: {BEFORE.name}")
    measured = {BEFORE.name: before, AFTER.name: after}
    outcomes = [Outcome(name, forecasts[name], measured[name]) for name in measured]
    return outcomes, promises, rate


def _served(policy: Policy, run_log: Path, progress: Tell) -> Any:
    progress(f"headway serve, {policy.name}", 0, None)
    return serving(policy.flags, run_log)


def _measure(address: str, work: Workload, progress: Tell, what: str) -> Measured:
    plan = BenchPlan(
        Endpoint(address, "", extra={"ignore_eos": True}),
        work,
        requests=sum(1 for _ in work.offers()),
        config={"request_rate": None, "burstiness": 1.0, "max_concurrency": None},
    )
    return bench(plan, lambda _, done, total: progress(what, done, total))


def _forecast(policy: Policy, work: Workload, profile: Path) -> dict[str, Any]:
    result = simulate(
        batching=policy.batching,
        ordering=policy.ordering,
        options=dict(policy.options),
        profile=str(profile),
        workload=work,
    )
    return {"summary": result.summary, "curves": result.curves}


def _overload_of(profile: Profile, profile_file: Path, progress: Tell) -> tuple[Promises, float]:
    """Promises that fit this machine, and a rate that it cannot hold under the first policy."""
    promises = Promises.for_step(decode_step_ms(profile, 8))
    rate = 0.5
    while rate < 64:
        progress(f"how much does {BEFORE.name} hold? {rate:.1f} requests/s", 0, None)
        forecast = _forecast(BEFORE, overload(rate * 1.15, promises), profile_file)
        if forecast["summary"]["slo_attainment"] < 0.9:
            break
        rate *= 1.15
    return promises, rate * OVERLOADED


def decode_step_ms(profile: Profile, sequences: int) -> float:
    """A step of so many decodes over contexts of a typical chat."""
    return profile.shape_ns(shape_of([(1, TYPICAL_CONTEXT, 1)] * sequences)) / NS_PER_MS


def _profile_sentence(profile: Profile) -> str:
    return (
        f"   A decode step of 1, 8 and 16 sequences takes {decode_step_ms(profile, 1):.1f}, "
        f"{decode_step_ms(profile, 8):.1f} and {decode_step_ms(profile, 16):.1f} ms here; a prompt token "
        f"{profile.chunk_time_ns(256, 0) / 256e6:.2f} ms."
    )


def _verdict(outcomes: list[Outcome]) -> list[str]:
    """What came of it, said plainly, also when it is little."""
    before, after = (outcome.measured.summary for outcome in outcomes)
    was, now = before["slo_attainment"] or 0.0, after["slo_attainment"] or 0.0
    said = [f"SLO attainment, measured: {was:.0%} before, {now:.0%} after."]
    if now < was + 0.02:
        said.append("On this machine, at this load, the SLO policy gained nothing worth having.")
    elif was and now / was < 1.1:
        said.append("The gain is small here: the load may have been lighter than forecast.")
    worst = max(outcome.worst_error() for outcome in outcomes)
    said.append(
        f"The forecast's worst error in this table is {worst:.0%}; it saw one short run of this machine."
    )
    said += [f"Note: {warning}" for outcome in outcomes for warning in outcome.measured.warnings]
    return said
