"""How fast the simulator is, against its targets, from one run: every number is measured side by side.

Usage: python bench/sim_speed.py [--quick] [--only NAME ...] [--json FILE] [--trace FILE]
Names: single startup routed fleet scaling cli peers. Verdicts on throughput are by CPU time of the process, which
other programs on the machine disturb less than the wall clock; it is shown beside. Start-up times are by wall clock.
Samples of different measurements alternate, and the median counts. `--quick` takes fewer samples of smaller runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import headway
from _measuring import (
    AT_LEAST,
    AT_MOST,
    ROOT,
    Row,
    Sample,
    child,
    machine,
    rates,
    say,
    table,
    timed,
    write_json,
)
from headway.api import Parts, Scenario, assemble
from headway.metrics import summarise
from headway.workload import mooncake_like

AZURE = ROOT.parent / "shared" / "traces" / "azure_llm_2023_conv.csv"
MOONCAKE_RPS = 0.85  # per instance: near what one H100 holds of such prompts
Plan = tuple[str, int, Callable[[], object]]  # name, requests, work

PEERS = """\
Published, not measured here:
    Vidur            1 instance    820 requests/s, after a start of 12 s, with 3.7 GB resident
    BLIS             1 instance    950 requests/s
    BLIS            16 instances   169 requests/s, prefix-aware routing
    DistServe-sim    1P + 1D     1,450 requests/s, affine step times
  Source: our study of 2026-11-21, two shared cores, CPU time, 1,000 requests (BLIS on 16 instances: 20,000).
  Vidur 0.0.26 installs from PyPI, but its wheel has no step-time tables: it fetches them from Hugging Face when it
  starts. AISimulate 0.13.0 is a stub there that fetches its wheel from NVIDIA. The others are on no package index."""


def single(trace: str | None) -> dict[str, Any]:
    """One instance, Azure's conversations, on a device that runs about 20 at a time."""
    chosen: dict[str, Any] = {"model": "llama-3.1-8b", "gpu": "a100-sxm", "requests": 1000}
    return chosen | ({"trace": trace} if trace else {})


def routed(requests: int) -> dict[str, Any]:
    """16 instances behind prefix affinity that gives way to load."""
    return {
        "batching": "prefill_first",
        "routing": "prefix_affinity",
        "options": {"routing.load_guard": 1.25},
        "instances": 16,
        "workload": mooncake_like(MOONCAKE_RPS * 16, requests=requests),
    }


def described(options: dict[str, Any]) -> str:
    """Plans a request and output tokens a step, from one run that is not timed."""
    options = dict(options)
    parts = Parts(workload=options.pop("workload", None))
    made = assemble(Scenario.of(options), parts)
    made.simulation.run(made.workload, on_offer=made.recorder.on_offer)
    told = summarise(made.recorder)
    plans = sum(instance.steps for instance in made.simulation.instances)
    batch = told["total_output_tokens"] / made.recorder.steps
    return f"{plans / told['offered']:.2f} plans a request, mean batch {batch:.1f} output tokens a step"


def bare(requests: int, seed: int) -> None:
    """Conversations on one instance, from scenario to summary."""
    headway.simulate(batching="prefill_first", requests=requests, seed=seed)


def several(times: int) -> None:
    """Short runs, each of other requests."""
    for seed in range(times):
        bare(1000, seed)


def alternate(plans: list[Plan], rounds: int) -> dict[str, list[Sample]]:
    """Sample every plan once a round, and those of a single short run five times."""
    taken: dict[str, list[Sample]] = {name: [] for name, _, _ in plans}
    for number in range(rounds):
        for name, requests, work in plans:
            for _ in range(5 if requests == 1000 else 1):
                sample = timed(work)
                taken[name].append(sample)
            say(f"round {number + 1}/{rounds}  {name}: {requests / sample.cpu_s:,.0f} requests/s")
    return taken


def throughput(names: set[str], trace: str | None, *, quick: bool) -> list[Row]:
    """What is measured inside this process: single, routed and scaling, interleaved."""
    plans: list[Plan] = []
    more: dict[str, str] = {}
    targets: dict[str, float | None] = {}
    if "single" in names:
        source = f"trace {Path(trace).name}" if trace else "conversation_like (no trace here)"
        for batching, target in (("prefill_first", 10_000), ("sarathi", 6_000)):
            options = single(trace) | {"batching": batching}
            name = f"1 instance, {batching}"
            more[name] = f"{source}; {described(options)}"
            targets[name] = target
            plans.append((name, 1000, partial(headway.simulate, **options)))
    if "routed" in names:
        requests, name = (4_000 if quick else 20_000), "16 instances, prefix_affinity"
        more[name] = (
            f"mooncake_like, load_guard=1.25; of the first 4,000: {described(routed(4_000))}"
        )
        targets[name] = 5_000
        plans.append((name, requests, partial(headway.simulate, **routed(requests))))
    if "scaling" in names:
        long, times = (20_000, 5) if quick else (100_000, 20)
        many, one = f"1 run of {long // 1000}k", f"{times} runs of 1k"
        plans.append((one, 1000 * times, partial(several, times)))
        plans.append((many, long, partial(bare, long, 0)))
    if not plans:
        return []
    for name, _, work in plans:
        if not name.endswith("k"):
            say(f"warming up: {name}")
            work()
    taken = alternate(plans, 2 if quick else 3)
    rows = [
        rates(name, requests, taken[name], targets[name], more[name])
        for name, requests, _ in plans
        if name in targets
    ]
    if "scaling" in names:
        rows.append(scaled(plans[-1], plans[-2], taken))
    return rows


def scaled(long: Plan, short: Plan, taken: dict[str, list[Sample]]) -> Row:
    """Speed of a long run over that of many short ones, pair by pair."""
    pairs = zip(taken[long[0]], taken[short[0]], strict=False)
    shares = [(long[1] / a.cpu_s) / (short[1] / b.cpu_s) for a, b in pairs]
    speeds = [median(p[1] / s.cpu_s for s in taken[p[0]]) for p in (long, short)]
    how = (
        f"requests/s of {long[0]} ({speeds[0]:,.0f}) over {short[0]} of different seeds ({speeds[1]:,.0f}): "
        f"median of the ratios of {len(shares)} rounds; conversation_like at 5.53/s, one instance"
    )
    return Row(
        "speed at length over speed at 1k", median(shares), "×", 0.9, AT_LEAST, how, None, shares
    )


def startup(trace: str | None, *, quick: bool) -> list[Row]:
    """Process start to result, with its peak memory."""
    command = [sys.executable, "-m", "headway", "simulate", "--requests", "1000", "--json", "-"]
    if trace:
        command += ["--trace", trace]
    samples = []
    for _ in range(3 if quick else 7):
        samples.append(child(command)[0])
        say(f"startup: {samples[-1].wall_s:.2f} s")
    walls, memory = [s.wall_s for s in samples], [s.rss_mb for s in samples]
    cpu = median(s.cpu_s for s in samples)
    how = f"headway simulate --requests 1000 --json -: median wall of {len(samples)}, best {min(walls):.2f}"
    return [
        Row("process start to result", median(walls), "s", 1.5, AT_MOST, f"{how}, CPU {cpu:.2f} s", None, walls),
        Row("... peak memory", max(memory), "MB", 300, AT_MOST, "largest of the same runs", None, memory),
    ]  # fmt: skip


def fleet(*, quick: bool) -> list[Row]:
    """1,000 instances in a child on one core."""
    requests = 50_000 if quick else 1_000_000
    say(f"fleet: {requests:,} requests over 1,000 instances")
    script = str(ROOT / "bench" / "_big_fleet.py")
    sample, printed = child([sys.executable, script, str(requests), "1000"], stdout=subprocess.PIPE)
    told = json.loads(printed)
    name = f"{requests // 1000:,}k requests, 1,000 instances"
    limit = 300 * requests / 1_000_000
    how = (
        f"one run, two_choices, prefill_first, conversation_like, one core; {told['completed']:,} completed, "
        f"{requests / told['cpu_s']:,.0f} requests/s; measured by CPU time of the process"
    )
    more = "target is 5 minutes for a million, in proportion" if quick else "peak of that process"
    return [
        Row(name, sample.cpu_s, "s", limit, AT_MOST, how, sample.wall_s, [sample.cpu_s]),
        Row("... peak memory", sample.rss_mb, "MB", 2048, AT_MOST, more, None, [sample.rss_mb]),
    ]


def cli() -> list[Row]:
    """The command's own weight: --help, and what `import headway` pulls in."""
    command = [sys.executable, "-m", "headway", "--help"]
    script = Path(sys.executable).with_name("headway")
    if script.exists():
        command = [str(script), "--help"]
    walls = [child(command)[0].wall_s for _ in range(11)][1:]
    probe = "import headway, sys; print(*{'numpy', 'torch'} & set(sys.modules))"
    _, printed = child([sys.executable, "-c", probe], stdout=subprocess.PIPE)
    pulled = printed.split()
    how = f"median wall of {len(walls)} processes, best {min(walls):.3f}"
    names = (
        f"import headway loads {' and '.join(pulled) if pulled else 'neither'} (of numpy, torch)"
    )
    return [
        Row("headway --help", median(walls), "s", 0.15, AT_MOST, how, None, walls),
        Row("import headway stays light", float(not pulled), "", 1.0, AT_LEAST, names),
    ]


def measured(names: set[str], trace: str | None, *, quick: bool) -> list[Row]:
    parts: list[list[Row]] = []
    if "cli" in names:
        parts.append(cli())
    if "startup" in names:
        parts.append(startup(trace, quick=quick))
    parts.append(throughput(names, trace, quick=quick))
    if "fleet" in names:
        parts.append(fleet(quick=quick))
    return list(chain.from_iterable(parts))


def main() -> int:
    known = ("single", "startup", "routed", "fleet", "scaling", "cli", "peers")
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer samples of smaller runs")
    parser.add_argument("--only", choices=known, nargs="+", default=known, metavar="NAME")
    parser.add_argument("--json", metavar="FILE", help="write all samples there")
    default = str(AZURE) if AZURE.exists() else None
    parser.add_argument("--trace", default=default, metavar="FILE", help="Azure's trace, if here")
    asked = parser.parse_args()
    before = machine()
    rows = measured(set(asked.only), asked.trace, quick=asked.quick)
    after = {f"{name}_after": machine()[name] for name in ("load_average", "reference_ms")}
    facts = before | after | {"quick": asked.quick}
    print(f"headway {headway.__version__} simulator, {'quick ' if asked.quick else ''}run")
    print("; ".join(f"{name}: {value}" for name, value in facts.items()) + "\n")
    if rows:
        print(table(rows))
    if "peers" in asked.only:
        print(f"\n{PEERS}")
    if asked.json:
        write_json(asked.json, facts, rows)
    missed = [row.name for row in rows if row.met is False]
    print(
        f"\n{len(rows) - len(missed)} of {len(rows)} met"
        + (f"; missed: {', '.join(missed)}" if missed else "")
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
