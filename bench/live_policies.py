"""What the policies are worth on a real model: paired, interleaved runs on live hosts, each a process of its own.

    a  sarathi: p99 ITL of streams while long prompts come, against prefill_first       at most 0.5 times
    b  flowprefill: p90 TTFT of short prompts behind a long one, against sarathi        at most 0.3 times
    c  swap: time to resume 1,000 tokens, against recompute                             at most 0.5 times
    d  smartspec: tokens/s of one stream of repetitive text, against no drafts          at least 1.3 times
    e  smartspec: tokens/s of 8 streams that nobody can guess, against no drafts        not less
    f  the better SLO policy: goodput of a mixed overload, against sarathi + earliest_deadline  at least 1.2 times
    g  the same against prefill_first + fcfs                                            at least 1.5 times
    h  flover: mean E2E of answers that come one by one, against static_batching        not more

Two hosts serve the same requests by turns, and the ratio within a round counts: see `_live_pairs.py`. Promises and
rate of f and g follow a probe of this machine (a short run, calibrated): a decode step of 8 is their unit of time, and
the rate is 1.5 times what the simulator says that sarathi + earliest_deadline holds. It also chooses, on other
arrivals, the options of every policy and which SLO policy is ours. No policy knows how long answers will be.

    python bench/live_policies.py                  # all, about 12 minutes on two quiet cores
    python bench/live_policies.py --only c,d       # some
    python bench/live_policies.py --quick --sim    # no model: hosts that take as long as the sheets say
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from _live_overload import CANDIDATES, OVERLOAD, overload
from _live_pairs import Trial, Verdict, drive, fleet_of, run_trial, table
from _live_parts import (
    BUDGET,
    LONG,
    Ground,
    Probed,
    alone,
    crowded,
    joining,
    numbered,
    request,
    resume,
    short_behind_long,
    streams_and_prompts,
    warm_up,
)
from _measuring import machine, say
from headway.api.calibration import calibrate_logs
from headway.errors import HeadwayError
from headway.records import read_run_log
from headway.timing import save_profile

EVERY = "abcdefgh"


async def probe(ground: Ground, folder: Path) -> Probed:
    """Bursts of all sizes under two policies, whole prompts and mixed steps, and step times fitted to them."""
    logs = []
    for batching in ("prefill_first", "sarathi"):
        say(f"probing this machine, {batching}")
        log, rng = folder / f"{batching}.jsonl", random.Random(0)
        options = {"batching.token_budget": str(BUDGET)} if batching == "sarathi" else {}
        async with fleet_of(ground.host(batching, options=options, run_log=str(log))) as live:
            await drive(live, warm_up(ground))
            for size in (1, 2, 4, 8, 12):
                lengths = [rng.choice((24, 40, 80, 160, 400, 800)) for _ in range(size)]
                burst = [request(rng, 0, tokens, rng.randint(16, 40)) for tokens in lengths]
                await drive(live, numbered(burst))
            await drive(live, [request(rng, 0, LONG, 4)])
        logs.append(read_run_log(log))
    profile = calibrate_logs(logs, "a probe", warmup=len(warm_up(ground))).profile
    file = folder / "profile.toml"
    save_profile(profile, file)
    return Probed(profile, str(file))


async def measure(ground: Ground, keys: str, given: argparse.Namespace) -> list[Verdict]:
    """All parts that were asked for, one after the other."""
    found: list[Verdict] = []
    with tempfile.TemporaryDirectory(prefix="headway-live-") as folder:
        probed = await probe(ground, Path(folder)) if set(keys) & set("bfg") else None
        for group in ("a", "b", "c", "d", "e", "fg", "h"):
            wanted = [key for key in group if key in keys]
            if not wanted:
                continue
            say(f"part {', '.join(wanted)}")
            trial = trial_of(group, ground, probed, given)
            rounds = given.pairs or (2 if ground.quick else trial.pairs)
            began = time.monotonic()
            found += await run_trial(trial, rounds, warm_up(ground), wanted)
            say(f"  took {time.monotonic() - began:.0f} s")
    return found


def trial_of(group: str, ground: Ground, probed: Probed | None, given: argparse.Namespace) -> Trial:
    """Put one part together."""
    if group in ("b", "fg"):
        assert probed is not None, "these parts come after a probe"
        if group == "b":
            return short_behind_long(ground, probed)
        return overload(ground, probed, given.slo_policy, given.overload)
    parts = {"a": streams_and_prompts, "c": resume, "d": alone, "e": crowded, "h": joining}
    return parts[group](ground)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", metavar="a,b", default=",".join(EVERY), help="these parts")
    parser.add_argument("--pairs", type=int, metavar="N", help="rounds of each part")
    parser.add_argument("--quick", action="store_true", help="two rounds of each, shorter ones")
    parser.add_argument("--sim", action="store_true", help="hosts without a model")
    parser.add_argument("--slo-policy", choices=CANDIDATES, help="ours in f and g")
    parser.add_argument(
        "--overload", type=float, default=OVERLOAD, metavar="X", help="rate of f and g, times"
    )
    parser.add_argument("--threads", type=int, default=0, help="of PyTorch [its own choice]")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    keys = given.only.replace(",", "").replace(" ", "")
    if not keys or set(keys) - set(EVERY) or (given.pairs is not None and given.pairs < 1):
        parser.error(f"--only takes letters of {EVERY}, --pairs at least 1")
    ground = Ground(given.sim, given.quick, given.threads, given.dtype)
    before = machine()
    try:
        verdicts = asyncio.run(measure(ground, keys, given))
    except KeyboardInterrupt:
        say("interrupted: the hosts have ended")
        return 130
    except HeadwayError as error:
        say(str(error))
        return 1
    facts = before | {"load_average_after": machine()["load_average"], "simulated": given.sim}
    print("; ".join(f"{name}: {value}" for name, value in facts.items()) + "\n")
    print(table(verdicts))
    if given.json:
        rows = [verdict.told() for verdict in verdicts]
        told = {"machine": facts, "quick": given.quick, "rows": rows}
        Path(given.json).write_text(json.dumps(told, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
