"""Parts f and g of `live_policies.py`: which promises are kept when chat and reports are too much together."""

from __future__ import annotations

import random
from dataclasses import replace
from statistics import mean

from _live_pairs import Goal, Heard, Trial, promise
from _live_parts import CHAT_STEPS, Ground, Probed, prompt
from _measuring import AT_LEAST, say
from headway.api import simulate
from headway.core import Request
from headway.core.sampling import Sampling
from headway.host import HostSpec
from headway.workload import Independent, LogNormal, Merged, Poisson, Synthetic, Uniform

OVERLOAD = 1.3
MIXED_S, QUICK_MIXED_S = 12.0, 5.0
CHAT_SHARE = 0.75
REPORT_STEPS, PACE_STEPS = 200, 6  # promises, in decode steps
MOST_OUTPUT = 40
STOP = 1  # the id that ends an answer of the mixed load
CANDIDATES = ("flowprefill", "jitserve")
BEFORE, AFTER, EDF = "prefill_first + fcfs", "sarathi + earliest_deadline", "earliest_deadline"
TUNED_ON = (501, 502, 503)  # seeds; those of the measured rounds begin at 100

Way = tuple[str, str, dict[str, str]]
"""Batching, ordering and options."""


def mixed(probed: Probed, rate_rps: float, seconds: float, seed: int) -> Merged:
    """Chat and reports at a rate; promises are multiples of the machine's step."""
    step_ms = probed.step_ms
    chat = promise("chat", CHAT_STEPS * step_ms, PACE_STEPS * step_ms)
    report = promise("report", REPORT_STEPS * step_ms, 3 * PACE_STEPS * step_ms)
    short = Independent(LogNormal.of(40, 60, most=200), Uniform(8, MOST_OUTPUT))
    long = Independent(LogNormal.of(420, 500, most=900), Uniform(8, MOST_OUTPUT))
    chats = max(1, round(rate_rps * seconds * CHAT_SHARE))
    reports = max(1, round(rate_rps * seconds * (1 - CHAT_SHARE)))
    first, second = Poisson(rate_rps * CHAT_SHARE), Poisson(rate_rps * (1 - CHAT_SHARE))
    return Merged(
        [
            Synthetic(first, short, chats, seed=2 * seed, slo=chat),
            Synthetic(second, long, reports, seed=2 * seed + 1, slo=report),
        ]
    )


def hidden_ends(ground: Ground, work: Merged, seed: int) -> list[Request]:
    """The same cap for all; where an answer ends is in its sampling, which no policy reads."""
    rng, made = random.Random(seed), []
    for one, output in work.offers():
        ends = Sampling(min_tokens=output - 1, stop_ids=(STOP,), logit_bias=((STOP, 1e4),))
        made.append(
            replace(
                one,
                prompt_ids=prompt(rng, one.prompt_tokens),
                max_tokens=output if ground.sim else MOST_OUTPUT,
                sampling=Sampling() if ground.sim else ends,
            )
        )
    return made


def rate_of(probed: Probed, times: float) -> float:
    """So many times the highest rate at which prefill_first + fcfs keeps nine promises in ten, by the simulator."""
    rate = 0.1
    while rate < 100:
        result = simulate(
            batching="prefill_first",
            timing=probed.profile,
            workload=mixed(probed, rate * 1.15, 60 / rate, 7),
        )
        if result.summary["slo_attainment"] < 0.9:
            break
        rate *= 1.15
    return times * rate


def settings_of(way: str, probed: Probed) -> list[Way]:
    """What may be chosen for a way to serve; the forecast chooses, for ours and for what it is compared with."""
    pace_ms = PACE_STEPS * probed.step_ms
    if way == BEFORE:
        return [("prefill_first", "fcfs", {})]
    if way == AFTER:
        budgets = (64, 128, 256, 512)
        return [("sarathi", EDF, {"batching.token_budget": str(budget)}) for budget in budgets]
    if way == "flowprefill":
        paces = (f"{share * pace_ms:.1f}" for share in (0.3, 0.45, 0.6, 0.75))
        return [("flowprefill", EDF, {"batching.itl_target_ms": pace}) for pace in paces]
    fixed = {"batching.interval": "10", "batching.expected_output": "24"}
    return [
        ("jitserve", EDF, fixed | {"batching.token_budget": str(budget)}) for budget in (128, 256)
    ]


def best_of(way: str, probed: Probed, rate: float, seconds: float) -> tuple[float, Way]:
    """Goodput and setting that the simulator forecasts to be best, on arrivals that are not measured."""
    found = []
    for batching, ordering, options in settings_of(way, probed):
        kept = mean(
            simulate(
                batching=batching,
                ordering=ordering,
                options=options,
                timing=probed.profile,
                workload=mixed(probed, rate, seconds, seed),
            ).summary["request_goodput"]
            for seed in TUNED_ON
        )
        found.append((kept, (batching, ordering, options)))
    return max(found, key=lambda one: one[0])


def overload(ground: Ground, probed: Probed, chosen: str | None, times: float) -> Trial:
    """(f) and (g). Which candidate is ours is decided by the forecast."""
    rate = rate_of(probed, times)
    seconds = QUICK_MIXED_S if ground.quick else MIXED_S

    def work(number: int) -> list[Request]:
        return hidden_ends(ground, mixed(probed, rate, seconds, 100 + number), number)

    ways = (BEFORE, AFTER, *([chosen] if chosen else CANDIDATES))
    best = {way: best_of(way, probed, rate, seconds) for way in ways}
    for way, (kept, setting) in best.items():
        say(f"  forecast, {way}: {kept:.3g} requests/s kept with {setting[2]}")
    ours = max(ways[2:], key=lambda way: best[way][0])
    said = ", ".join(f"{way} {kept:.3g}" for way, (kept, _) in best.items())
    say(f"  {rate:.2f} requests/s for {seconds:.0f} s, decode step {probed.step_ms:.1f} ms")

    def host(way: str) -> HostSpec:
        batching, ordering, options = best[way][1]
        profile = probed.file if way == ours else ""
        return ground.host(batching, ordering=ordering, options=options, profile=profile)

    return Trial(
        {way: host(way) for way in (ours, AFTER, BEFORE)},
        work,
        Heard.goodput,
        "requests/s",
        (
            Goal("f", f"goodput, {ours} / sarathi + EDF", ours, AFTER, 1.2, AT_LEAST),
            Goal("g", f"goodput, {ours} / prefill_first + fcfs", ours, BEFORE, 1.5, AT_LEAST),
        ),
        5,
        f"{rate:.2f} requests/s, {times:g} times what prefill_first holds, for {seconds:.0f} s, decode step "
        f"{probed.step_ms:.1f} ms; options by forecast: {said}",
    )
