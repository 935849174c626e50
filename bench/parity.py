"""Does the simulator say what the live engine does? Two questions, one run of a real host in a process of its own.

(a) Decisions: the run log is replayed, requests entering and steps landing as they did; every step must then have
the same members and tokens. Printed: how many of how many steps agree, and the first difference.

(b) Forecast: step times are calibrated on one workload and used to forecast another, with other lengths, other
burstiness and another rate, none of whose steps the fit has seen. Both are run by turns. Goodput should be within
10 %, p99 TTFT within 20 %.

    python bench/parity.py                # the embedded model, about 100 s
    python bench/parity.py --quick        # likewise, about 40 s; too short for a verdict on a tail
    python bench/parity.py --sim --quick  # no model: a host that takes as long as the sheets say, real processes
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from headway.api.calibration import calibrate_logs
from headway.api.decision_replay import replay_decisions
from headway.api.judgement import judge
from headway.api.replay import Case, Setting, measured_log, replay
from headway.api.step_samples import samples_of
from headway.core import NS_PER_MS, NS_PER_S, Request, Sequence, Slo, Step, StepResult
from headway.core.fleet import FINISHED_OK
from headway.host import HostSpec, LiveFleet
from headway.host.spec import LIVE, SIM, SimSpec
from headway.records import RunLog, Stepped, read_run_log
from headway.runtime import load_policy
from headway.timing import Profile, Scattered

GOODPUT_WITHIN, TTFT_WITHIN = 0.10, 0.20
TOKEN_BUDGET, BLOCKS, VOCABULARY = 128, 512, 20_000
WARM, FIRST, SECOND = 0, 1_000, 100_000  # first ids of each workload
DRAWS = 9
TURNS = 6


@dataclass(frozen=True)
class Shape:
    """A workload: mean lengths, burstiness of arrivals (CV of gamma gaps) and share of the capacity offered."""

    prompt: int
    output: int
    cv: float
    load: float


CALIBRATED_ON = Shape(prompt=60, output=20, cv=1.0, load=0.6)
FORECAST = Shape(prompt=110, output=14, cv=1.6, load=0.5)


class Deaf:
    """Implements `Sink`: all that is needed is in the run log."""

    def on_tokens(self, step: Step, result: StepResult) -> None:
        pass

    def on_end(
        self, request: Request, sequence: Sequence | None, outcome: str, now_ns: int
    ) -> None:
        pass


def workload(
    shape: Shape, first_id: int, seconds: float, capacity_tps: float, seed: int
) -> list[Request]:
    """Requests for so many seconds; lengths are exponential, and outputs are as long as `max_tokens`."""
    rng, now_s, made = random.Random(seed), 0.0, []
    rate = shape.load * capacity_tps / shape.output
    power = 1 / shape.cv**2
    while now_s < seconds:
        now_s += rng.gammavariate(power, 1 / (power * rate))
        prompt = min(4 * shape.prompt, 2 + int(rng.expovariate(1 / shape.prompt)))
        output = min(4 * shape.output, 2 + int(rng.expovariate(1 / shape.output)))
        ids = (2, *(rng.randrange(3, VOCABULARY) for _ in range(prompt - 1)))
        made.append(
            Request(first_id + len(made), round(now_s * NS_PER_S), prompt, output, prompt_ids=ids)
        )
    return made


async def run_live(
    spec: HostSpec, seconds: float, seed: int
) -> tuple[list[Request], list[Request]]:
    """Warm up, find how fast the machine is, then run both workloads; return them as they were offered."""
    policies = (load_policy("admission", "unbounded"), load_policy("routing", "round_robin"))
    async with LiveFleet(spec, policies) as live:
        rng = random.Random(seed)
        for turn in range(2):  # the first pays for what is made once
            ids = (2, *(rng.randrange(3, VOCABULARY) for _ in range(59)))
            batch = [Request(WARM + 8 * turn + n, 0, 60, 20, prompt_ids=ids) for n in range(8)]
            began = asyncio.get_running_loop().time()
            await live.run(batch, Deaf())
            took_s = asyncio.get_running_loop().time() - began
        capacity_tps = 8 * 20 / took_s
        say(f"{live.ready.model}: {capacity_tps:.0f} output tokens/s, 8 requests at once")
        one: list[Request] = []
        two: list[Request] = []
        for turn in range(TURNS):  # by turns: a machine with other work to do changes its pace
            for name, shape, first_id, made in (
                ("to calibrate", CALIBRATED_ON, FIRST, one),
                ("to forecast", FORECAST, SECOND, two),
            ):
                ids = first_id + len(made)
                requests = workload(
                    shape, ids, seconds / TURNS, capacity_tps, seed + 9 * turn + ids
                )
                made.extend(requests)
                say(f"running a workload {name}: {len(requests)} requests")
                await live.run(requests, Deaf())
    return one, two


def part_of(log: RunLog, low: int, high: int) -> RunLog:
    """Lines about requests with ids in [low, high); workloads follow each other, so that no step has both."""
    part = RunLog(log.opened)
    part.submitted = [line for line in log.submitted if low <= line.id < high]
    part.steps = [step for step in log.steps if all(low <= work.id < high for work in step.works)]
    part.ended = [line for line in log.ended if low <= line.id < high]
    wanted = {id(line) for line in (*part.submitted, *part.steps, *part.ended)}
    part.lines = [line for line in log.lines if id(line) in wanted]
    return part


def slo_of(log: RunLog) -> Slo:
    """A promise that the first workload kept nine times in ten: neither trivial nor hopeless."""
    run = measured_log(log)
    judged = judge(run.cases, run.times)
    ttft = sorted(judged.ttft_ns[judged.ttft_ns >= 0])
    tpot = sorted(judged.tpot_ns[judged.tpot_ns >= 0])
    return Slo(
        ttft_ns=int(ttft[int(0.9 * len(ttft))]),
        tpot_ns=int(tpot[int(0.9 * len(tpot))]),
    )


def forecast(
    requests: list[Request], setting: Setting, profile: Profile, slo: Slo, delay_ns: int
) -> list[dict[str, float]]:
    """Metrics of the workload before it was run, in several draws of the scatter that was measured."""
    cases = [
        Case(replace(request, slo=slo), request.arrival_ns + delay_ns, request.max_tokens)
        for request in requests
    ]
    found = []
    for draw in range(DRAWS):
        timing = Scattered(profile, profile.residuals, seed=draw)
        found.append(judge(cases, replay(cases, setting, timing)).metrics())
    return found


def as_offered(requests: list[Request], log: RunLog) -> list[Request]:
    """The requests at the times at which they were meant to arrive, on the host's clock."""
    arrivals = {line.id: line.arrival_ns for line in log.submitted}
    return [replace(request, arrival_ns=arrivals[request.id]) for request in requests]


def compare(log: RunLog, two: list[Request]) -> dict[str, Any]:
    """(a) and (b)."""
    failed = [line.outcome for line in log.ended if line.outcome != FINISHED_OK]
    if failed:
        sys.exit(
            f"{len(failed)} of {len(log.ended)} requests did not finish, the first: {failed[0]}"
        )
    agreement = replay_decisions(log)
    first, second = part_of(log, FIRST, SECOND), part_of(log, SECOND, 1 << 60)
    made = calibrate_logs([first], "the first workload")
    slo = slo_of(first)
    delay_ns = int(median(line.now_ns - line.arrival_ns for line in first.submitted))
    run = measured_log(second)
    cases = [replace(case, request=replace(case.request, slo=slo)) for case in run.cases]
    measured = judge(cases, run.times).metrics()
    setting = replace(run.setting, leap=True)
    draws = forecast(as_offered(two, second), setting, made.profile, slo, delay_ns)
    steps = samples_of(second).steps
    predicted = sum(made.profile.shape_ns(step.shape) - made.profile.gap_ns for step in steps)
    pace = sum(step.duration_ns for step in steps) / predicted
    names = (
        "request_goodput",
        "p99_ttft_ms",
        "p50_ttft_ms",
        "p50_tpot_ms",
        "p99_tpot_ms",
        "p50_e2el_ms",
    )
    rows = {}
    for name in names:
        values = sorted(draw[name] for draw in draws)
        rows[name] = {
            "measured": measured[name],
            "forecast": median(values),
            "lowest": values[0],
            "highest": values[-1],
            "ratio": median(values) / measured[name] if measured[name] else float("nan"),
        }
    for name, within in (("request_goodput", GOODPUT_WITHIN), ("p99_ttft_ms", TTFT_WITHIN)):
        rows[name] |= {"within": within, "met": abs(rows[name]["ratio"] - 1) <= within}
    return {
        "decisions": {
            "agreed": agreement.agreed,
            "steps": agreement.steps,
            "difference": agreement.difference,
            "met": agreement.whole,
        },
        "forecast": rows,
        "fit": {kind: fit.mape for kind, fit in made.profile.fit.items()},
        "pace": pace,
        "gap_us": made.profile.gap_ns / 1000,
        "slo_ms": {"ttft": slo.ttft_ns / NS_PER_MS, "tpot": slo.tpot_ns / NS_PER_MS},  # type: ignore[operator]
        "requests": {"calibrated": len(first.submitted), "forecast": len(second.submitted)},
        "pauses": pauses(log.steps),
    }


def pauses(steps: list[Stepped]) -> int:
    """Steps that took five times as long as the median: how noisy the machine was."""
    times = [step.end_ns - step.start_ns for step in steps]
    return sum(time > 5 * median(times) for time in times)


def show(told: dict[str, Any]) -> None:
    decisions, requests = told["decisions"], told["requests"]
    verdict = "met" if decisions["met"] else "NOT MET"
    print(f"(a) decisions alike: {decisions['agreed']} of {decisions['steps']} steps  {verdict}")
    if decisions["difference"]:
        print(f"    {decisions['difference']}")
    errors = ", ".join(f"{kind} {100 * mape:.1f} %" for kind, mape in told["fit"].items())
    print(f"(b) calibrated on {requests['calibrated']} requests; error on held-out steps: {errors}")
    print(
        f"    forecast of {requests['forecast']} others, SLO {told['slo_ms']} ms, {told['pauses']} pauses"
    )
    print(f"    its steps took {told['pace']:.3f} times what the profile says: the machine, mostly")
    print(f"    {'metric':<16}{'measured':>10}{'forecast':>10}{'draws':>18}{'ratio':>8}")
    for name, row in told["forecast"].items():
        draws = f"{row['lowest']:.4g} … {row['highest']:.4g}"
        line = f"    {name:<16}{row['measured']:>10.4g}{row['forecast']:>10.4g}{draws:>18}{row['ratio']:>8.3f}"
        if "met" in row:
            line += f"  within {100 * row['within']:.0f} %: {'met' if row['met'] else 'NOT MET'}"
        print(line)


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--quick", action="store_true", help="short workloads")
    parser.add_argument("--sim", action="store_true", help="a host without a model")
    parser.add_argument("--seconds", type=float, help="of each workload")
    parser.add_argument("--batching", default="sarathi")
    parser.add_argument("--ordering", default="fcfs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", metavar="FILE", help="keep the run log")
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(given.log or Path(folder) / "run.jsonl")
        spec = HostSpec(
            model="gemma-3-270m" if given.sim else "embedded",
            world=SIM if given.sim else LIVE,
            sim=SimSpec(gpu="cpu"),
            batching=given.batching,
            ordering=given.ordering,
            options={"batching.token_budget": str(TOKEN_BUDGET)},
            blocks=BLOCKS,
            ignore_eos=True,
            threads=1,
            run_log=str(path),
        )
        seconds = given.seconds or (12 if given.quick else 42)
        _, two = asyncio.run(run_live(spec, seconds, given.seed))
        told = compare(read_run_log(path), two)
    show(told)
    if given.json:
        Path(given.json).write_text(json.dumps(told, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
