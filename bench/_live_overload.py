"""Parts f and g of `live_policies.py`: which promises are kept when chat and reports are too much together."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from _live_pairs import Goal, Heard, Trial
from _live_parts import Ground, Probed, prompt
from _measuring import AT_LEAST, say
from headway.core import Request
from headway.core.sampling import Sampling
from headway.demo.mixed_load import MOST_OUTPUT, Promises, mixed
from headway.demo.ways import PLAIN, Overload, Way, candidates
from headway.host import HostSpec
from headway.workload import Merged

OVERLOAD = 1.5
MIXED_S, QUICK_MIXED_S = 12.0, 5.0
REPORT_STEPS = 200  # decode steps within which a report is promised a first token
STOP = 1  # the id that ends an answer of the mixed load
CANDIDATES = ("fewest_late", "flowprefill", "jitserve")
BEFORE, AFTER = "prefill_first + fcfs", "sarathi + earliest_deadline"


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


def rate_of(probed: Probed, promises: Promises, times: float) -> float:
    """So many times the highest rate at which sarathi + EDF keeps nine promises in ten, by the simulator."""
    rate, strong = 0.1, candidates(probed.step_ms)["sarathi"]
    while rate < 100:
        found = Overload(promises, 60 / rate, Path(probed.file))
        if max(found.kept(way, rate * 1.15, 7)[0] for way in strong) < 0.9:
            break
        rate *= 1.15
    return times * rate


def settings_of(way: str, probed: Probed) -> list[Way]:
    """What may be chosen for a way to serve; the forecast chooses, for ours and for what it is compared with."""
    if way == BEFORE:
        return [PLAIN]
    return candidates(probed.step_ms)["sarathi" if way == AFTER else way]


def overload(ground: Ground, probed: Probed, chosen: str | None, times: float) -> Trial:
    """(f) and (g). Which candidate is ours is decided by the forecast."""
    promises = Promises.for_step(probed.step_ms, REPORT_STEPS)
    rate = rate_of(probed, promises, times)
    seconds = QUICK_MIXED_S if ground.quick else MIXED_S
    load = Overload(promises, seconds, Path(probed.file))

    def work(number: int) -> list[Request]:
        return hidden_ends(ground, mixed(rate, seconds, promises, 100 + number), number)

    ways = (BEFORE, AFTER, *([chosen] if chosen else CANDIDATES))
    best = {way: load.best(settings_of(way, probed), rate) for way in ways}
    for kept, setting in best.values():
        say(f"  forecast, {setting.text}: {kept:.3g} requests/s kept")
    ours = max(ways[2:], key=lambda way: best[way][0])
    said = ", ".join(f"{way} {kept:.3g}" for way, (kept, _) in best.items())
    say(f"  {rate:.2f} requests/s for {seconds:.0f} s, decode step {probed.step_ms:.1f} ms")

    def host(way: str) -> HostSpec:
        setting = best[way][1]
        profile = probed.file if way == ours else ""
        return ground.host(
            setting.batching, ordering=setting.ordering, options=setting.settings, profile=profile
        )

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
        f"{rate:.2f} requests/s, {times:g} times what sarathi + EDF holds, for {seconds:.0f} s, decode step "
        f"{probed.step_ms:.1f} ms; options by forecast: {said}",
    )
