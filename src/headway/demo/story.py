"""Tell the story on a terminal, and as a page."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from headway.api import Result, calibrate
from headway.core.protocols import Workload
from headway.demo.live_server import serving
from headway.demo.mixed_load import CALIBRATION, WARM_UP, Promises, Wave, decode_step_ms
from headway.demo.outcome import Outcome, page, table, verdict
from headway.demo.ways import PLAIN, TUNED_ON, Overload, Way, candidates, forecast
from headway.errors import WorkloadError
from headway.loadgen import BenchPlan, Endpoint, Measured, bench
from headway.records import read_run_log
from headway.timing import Profile, save_profile
from headway.workload import ClosedLoop

CHUNKED = Way("sarathi", "fcfs", {"token_budget": "256"})
"""With the plain way, of whole prompts and pure steps, what is calibrated under: steps of all kinds."""
CALIBRATION_S = (
    20.0  # of one server; no wave begins later: on a slow machine the largest are left out
)
LONGEST_S, SHORTEST_S = 20.0, 10.0  # of the overload ...
WRITTEN_S = 10.0  # within which a host has written what happened
STORY_S = 150.0  # ... so that all of it takes about so long where calibrating went quickly,
PER_OVERLOAD_S = (
    4.5  # when each second of it takes so many of the rest: two runs, each with its queue's end
)
MOST_KEPT = (
    0.4  # of the promises, by the forecast, under the plain policies, whatever arrivals are drawn
)
MEASURED_SEED = 7
UNSTEADY = 1.5  # slowest by fastest tenth of the calibration

_salts = itertools.count(1)

Tell = Callable[[str, float, float | None], None]


@dataclass(frozen=True)
class Ground:
    """Where the story plays: where files go, who hears of progress, what else `headway serve` is told.

    `waves` are those of the two servers that are calibrated on; `seconds` bounds how long the overload lasts.
    """

    folder: Path
    tell: Tell
    flags: tuple[str, ...] = ()
    warm_up: Wave = WARM_UP
    waves: tuple[tuple[Wave, ...], tuple[Wave, ...]] = CALIBRATION
    seconds: tuple[float, float] = (SHORTEST_S, LONGEST_S)

    def log(self, name: str) -> Path:
        """The run log of one server."""
        return self.folder / f"{name}.jsonl"

    @property
    def profile(self) -> Path:
        """Where the calibration goes."""
        return self.folder / "profile.toml"


@dataclass(frozen=True)
class Plan:
    """What is served for real: the overload, its rate, and two ways, the plain one first, with their forecasts."""

    overload: Overload
    rate_rps: float
    ways: tuple[tuple[Way, Result], tuple[Way, Result]]

    @property
    def work(self) -> Workload:
        """The arrivals that are measured."""
        return self.overload.work(self.rate_rps, MEASURED_SEED)

    @property
    def title(self) -> str:
        """Load and promises."""
        return f"{self.rate_rps:.1f} requests/s. {self.overload.promises.text()}"


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

        plan, outcomes = play(Ground(Path(folder), progress), console.print)
    console.print(table(outcomes, plan.title))
    for sentence in verdict(outcomes):
        console.print(sentence)
    html.parent.mkdir(parents=True, exist_ok=True)
    html.write_text(page(outcomes, plan.title), encoding="utf-8")
    console.print(f"The same with distributions: {html}")


def play(ground: Ground, say: Callable[[str], None]) -> tuple[Plan, list[Outcome]]:
    """All of it but the table; `say` hears a few sentences, with rich's marks."""
    say(
        "[bold]1. A real model behind an OpenAI API[/]: `headway serve` with Gemma-3-270M on this CPU, under "
        f"{CHUNKED.name} and then {PLAIN.name}. Short runs, and `headway calibrate` on their logs."
    )
    began, (first, second) = time.monotonic(), ground.waves
    with _served(ground, CHUNKED, "calibration") as address:
        _send_waves(ground, address, first)
    with _served(ground, PLAIN, "before") as address:
        sent = _send_waves(ground, address, second)
        _await_log(ground.log("before"), sent)
        profile = calibrated(ground)
        say(_profile_sentence(profile))
        shortest, longest = ground.seconds
        left_s = STORY_S - (time.monotonic() - began)
        seconds = min(longest, max(shortest, left_s / PER_OVERLOAD_S))
        plan = planned(ground, profile, seconds)
        say(_plan_sentence(plan))
        (plain, expected), (best, hoped) = plan.ways
        before = _measure_plan(ground, address, plan, plain)
    outcomes = [Outcome.of(plain, expected, before, profile, ground.log("before"), sent)]
    with _served(ground, best, "after", f"--profile={ground.profile}") as address:
        after = _measure_plan(ground, address, plan, best)
    warm, log = ground.warm_up.requests, ground.log("after")
    outcomes.append(Outcome.of(best, hoped, after, profile, log, warm))
    return plan, outcomes


def _await_log(log: Path, requests: int) -> None:
    """Wait until the end of so many requests is in a live server's log, which it writes now and then."""
    until = time.monotonic() + WRITTEN_S
    while _ended(log) < requests and time.monotonic() < until:
        time.sleep(0.1)


def _ended(log: Path) -> int:
    try:
        return len(read_run_log(log).ended)
    except WorkloadError:
        return 0  # not even its first line is there yet


def calibrated(ground: Ground) -> Profile:
    """Fit step times to both servers' logs; their warm-ups are left out."""
    logs = [ground.log("calibration"), ground.log("before")]
    profile = calibrate(logs, warmup=ground.warm_up.requests).profile
    save_profile(profile, ground.profile)
    return profile


def planned(ground: Ground, profile: Profile, seconds: float) -> Plan:
    """Promises that fit this machine, a rate that it cannot hold under the plain policies, and who holds it best."""
    step_ms = decode_step_ms(profile)
    overload = Overload(Promises.for_step(step_ms), seconds, ground.profile)

    def searching(rate_rps: float) -> None:
        ground.tell(f"how much is too much for {PLAIN.name}? {rate_rps:.1f} requests/s", 0, None)

    rate = overload.rate(PLAIN, MOST_KEPT, (*TUNED_ON, MEASURED_SEED), searching)
    ground.tell("who does best?", 0, None)
    _, best = overload.best(itertools.chain.from_iterable(candidates(step_ms).values()), rate)
    work = overload.work(rate, MEASURED_SEED)
    plain, other = (forecast(way, work, ground.profile) for way in (PLAIN, best))
    return Plan(overload, rate, ((PLAIN, plain), (best, other)))


@contextmanager
def _served(ground: Ground, way: Way, name: str, *flags: str) -> Iterator[str]:
    """A server of its own, warm: it has answered requests like those that follow."""
    ground.tell(f"headway serve, {way.name}", 0, None)
    with serving([*ground.flags, *way.flags, *flags], ground.log(name)) as address:
        warm = ground.warm_up
        _measure(ground, address, warm.workload(0), "warming up", warm.requests)
        yield address


def _send_waves(ground: Ground, address: str, waves: tuple[Wave, ...]) -> int:
    """To calibrate on; returns how many requests the server has had, the warm-up's included."""
    sent, began = ground.warm_up.requests, time.monotonic()
    for seed, wave in enumerate(waves, 1):
        if time.monotonic() - began < CALIBRATION_S:
            what = f"a short run to calibrate on, {seed} of {len(waves)}"
            _measure(ground, address, wave.workload(seed), what, wave.requests)
            sent += wave.requests
    return sent


def _measure_plan(ground: Ground, address: str, plan: Plan, way: Way) -> Measured:
    requests = sum(1 for _ in plan.work.offers())
    return _measure(ground, address, plan.work, f"for real: {way.name}", requests)


def _measure(ground: Ground, address: str, work: Workload, what: str, requests: int) -> Measured:
    """Run a workload; a salt of its own keeps it from finding another's prompts in the prefix cache."""
    plan = BenchPlan(
        Endpoint(address, "", extra={"ignore_eos": True}),
        work,
        requests=requests,
        closed=isinstance(work, ClosedLoop),
        warmup=0,
        salt=next(_salts),
        config={"request_rate": None, "burstiness": 1.0, "max_concurrency": None},
    )
    return bench(plan, lambda _, done, total: ground.tell(what, done, total))


def _profile_sentence(profile: Profile) -> str:
    one, eight, many = (decode_step_ms(profile, sequences) for sequences in (1, 8, 16))
    said = (
        f"   A decode step of 1, 8 and 16 sequences takes {one:.1f}, {eight:.1f} and {many:.1f} ms here; "
        f"a prompt token {profile.chunk_time_ns(256, 0) / 256e6:.2f} ms."
    )
    parts = sorted(profile.drift)
    fast, slow = parts[len(parts) // 10], parts[-1 - len(parts) // 10]
    if slow > UNSTEADY * fast:
        said += f" The machine is not steady: the same work took {fast:.2f} to {slow:.2f} times as long."
    return said


def _plan_sentence(plan: Plan) -> str:
    (plain, expected), (best, hoped) = plan.ways
    was, now = (result.summary["slo_attainment"] or 0.0 for result in (expected, hoped))
    return (
        f"[bold]2. The simulator forecasts[/] {plan.rate_rps:.1f} requests/s of chat and reports for "
        f"{plan.overload.seconds:.0f} s: {plain.name} keeps {was:.0%} of the promises, and the best that it found "
        f"for other arrivals of this kind, {best.text}, {now:.0%}. [bold]3. Then both run for real.[/]"
    )
