"""Parts a to e and h of `live_policies.py`: hosts, requests, and what is measured of them; and what all parts share."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from _live_pairs import NEVER_WORSE, Goal, Heard, Trial, at_share, promise
from _measuring import AT_LEAST, AT_MOST
from headway.core import NS_PER_MS, Request, Slo
from headway.core.sampling import Sampling
from headway.demo.mixed_load import CHAT_STEPS, decode_step_ms
from headway.errors import HeadwayError
from headway.host import HostSpec
from headway.host.spec import LIVE, SIM, SimSpec
from headway.timing import Profile

VOCABULARY = 20_000
BLOCKS, BLOCK_TOKENS = 1024, 16
BUDGET = 128  # tokens of a step where ITL counts: a chunk beside everybody's next token
WHOLE = 2048  # ... and where it does not: whole prompts
LONG = 1600  # tokens of a long prompt
RESUMED = 1000


@dataclass(frozen=True)
class Ground:
    """What all parts share: how a host is made, and whether to be short."""

    sim: bool
    quick: bool
    threads: int
    dtype: str

    def host(self, batching: str = "sarathi", **more: Any) -> HostSpec:
        """A host under one policy; nothing but `max_tokens` and a request's own stops ends an answer."""
        return replace_spec(
            HostSpec(
                model="gemma-3-270m" if self.sim else "embedded",
                world=SIM if self.sim else LIVE,
                sim=SimSpec(gpu="cpu"),
                batching=batching,
                blocks=BLOCKS,
                block_tokens=BLOCK_TOKENS,
                threads=self.threads,
                dtype="float32" if self.sim else self.dtype,
                ignore_eos=True,
                prefix_cache=False,  # the same prompts come to a host once, but to be sure
            ),
            more,
        )


def replace_spec(spec: HostSpec, more: dict[str, Any]) -> HostSpec:
    """With other fields."""
    return HostSpec(**{name: getattr(spec, name) for name in spec.__struct_fields__} | more)


@dataclass(frozen=True)
class Probed:
    """What the probe said of this machine."""

    profile: Profile
    file: str

    @property
    def step_ms(self) -> float:
        """A decode step of 8 sequences of a typical chat."""
        return decode_step_ms(self.profile)

    def prompt_ms(self, tokens: int) -> float:
        """A whole prompt alone."""
        return self.profile.chunk_time_ns(tokens, 0) / NS_PER_MS


def prompt(rng: random.Random, tokens: int) -> tuple[int, ...]:
    """Ids of no meaning, all different from run to run."""
    return (2, *(rng.randrange(3, VOCABULARY) for _ in range(tokens - 1)))


def request(
    rng: random.Random, at_ms: float, tokens: int, output: int, slo: Slo | None = None
) -> Request:
    """With an id that only orders those of the same time."""
    made = Request(0, round(at_ms * NS_PER_MS), tokens, output, prompt_ids=prompt(rng, tokens))
    return replace(made, slo=slo) if slo else made


def numbered(requests: list[Request]) -> list[Request]:
    """Ids in the order written."""
    return [replace(one, id=n) for n, one in enumerate(requests)]


def warm_up(ground: Ground) -> list[Request]:
    """One long prompt and two short ones: what is made once is made now."""
    rng, long = random.Random(-1), 40 if ground.sim else 800
    return numbered([request(rng, 0, 40, 24), request(rng, 0, 40, 24), request(rng, 1, long, 8)])


# -- a, b, c: who waits for whom ---------------------------------------------------------------------------------


def streams_and_prompts(ground: Ground) -> Trial:
    """(a) Who streams while long prompts come."""
    streams, output, prompts, tokens = 3, 80, 3, 800

    def work(number: int) -> list[Request]:
        rng = random.Random(number)
        made = [request(rng, 0, 24, output, promise("stream", 60_000)) for _ in range(streams)]
        made += [
            request(rng, 200 + 900 * n + rng.uniform(0, 300), tokens, 4) for n in range(prompts)
        ]
        return numbered(made)

    def metric(heard: Heard) -> float:
        return at_share(heard.gaps_ms("stream"), 0.99)

    return Trial(
        {
            "sarathi": ground.host(options={"batching.token_budget": str(BUDGET)}),
            "prefill_first": ground.host("prefill_first"),
        },
        work,
        metric,
        "ms",
        (Goal("a", "p99 ITL, sarathi / prefill_first", "sarathi", "prefill_first", 0.5, AT_MOST),),
        5,
        f"{streams} streams of {output} tokens, {prompts} prompts of {tokens} in between; budget {BUDGET}",
    )


def short_behind_long(ground: Ground, probed: Probed) -> Trial:
    """(b) Who is short and comes behind a long one."""
    longs, shorts, long_ms = 2, 7, probed.prompt_ms(LONG)
    hurry = promise("short", CHAT_STEPS * probed.step_ms)
    patience = promise("long", 20 * long_ms)

    def work(number: int) -> list[Request]:
        rng, made = random.Random(number), []
        for n in range(longs):
            at_ms = 2.5 * n * long_ms
            made.append(request(rng, at_ms, LONG, 4, patience))
            for _ in range(shorts):
                later_ms = rng.uniform(0.05, 0.9) * long_ms
                made.append(request(rng, at_ms + later_ms, 32, 4, hurry))
        return numbered(made)

    def metric(heard: Heard) -> float:
        return at_share(heard.ttft_ms("short"), 0.9)

    return Trial(
        {"flowprefill": ground.host("flowprefill", profile=probed.file), "sarathi": ground.host()},
        work,
        metric,
        "ms",
        (Goal("b", "p90 TTFT, flowprefill / sarathi", "flowprefill", "sarathi", 0.3, AT_MOST),),
        5,
        f"{longs * shorts} prompts of 32 tokens while {longs} of {LONG} are computed ({long_ms:,.0f} ms alone); "
        f"sarathi with budget 512 and fcfs",
    )


def resume(ground: Ground) -> Trial:
    """(c) The first of two outgrows the pool, so the second goes away at about 1,017 tokens, until the first ends."""
    first, output, spare = 64, 48, 2
    blocks = -(-first // BLOCK_TOKENS) + -(-RESUMED // BLOCK_TOKENS) + spare

    def work(number: int) -> list[Request]:
        rng = random.Random(number)
        return numbered([request(rng, 0, first, output), request(rng, 0, RESUMED, output)])

    def metric(heard: Heard) -> float:
        one, other = heard.in_order()
        if not heard.preemptions[other]:
            raise HeadwayError("nobody was preempted: the pool is too large for this measurement")
        free_ns = heard.times[one][-1]
        return (min(t for t in heard.times[other] if t > free_ns) - free_ns) / NS_PER_MS

    budget = {"batching.token_budget": str(WHOLE)}
    return Trial(
        {
            "swap": ground.host(memory="swap", blocks=blocks, options=budget),
            "recompute": ground.host(memory="recompute", blocks=blocks, options=budget),
        },
        work,
        metric,
        "ms",
        (Goal("c", "resuming 1,000 tokens, swap / recompute", "swap", "recompute", 0.5, AT_MOST),),
        5,
        "from the last token of who took the blocks to the next token of who was sent away; one chunk",
    )


# -- d, e: drafts ------------------------------------------------------------------------------------------------


def repetitive(ground: Ground) -> Callable[[int], tuple[int, ...]]:
    """Prompts that are continued by more of the same."""
    if ground.sim:
        return lambda number: (2, *(list(prompt(random.Random(number), 20)) * 8))
    from headway.checkpoint.checkpoint import open_checkpoint
    from headway.checkpoint.locate import locate

    checkpoint = open_checkpoint(locate(None))
    try:
        encode = checkpoint.tokenizer.encode
        texts = [
            f'{{"sensor": "{name}", "unit": "ms", "state": "ok", "alarm": false}}\n' * 6
            for name in ("north", "south", "east", "west", "upper", "lower")
        ]
        prompts = [tuple(encode(text)) for text in texts]
    finally:
        checkpoint.close()
    return lambda number: prompts[number % len(prompts)]


def alone(ground: Ground) -> Trial:
    """(d) One stream, easy to guess."""
    text, output = repetitive(ground), 32 if ground.quick else 96

    def work(number: int) -> list[Request]:
        ids = text(number)
        return [Request(0, 0, len(ids), output, prompt_ids=ids)]

    return Trial(
        _drafting(ground),
        work,
        Heard.tokens_per_s,
        "tokens/s",
        (Goal("d", "one repetitive stream, smartspec / none", "smartspec", "none", 1.3, AT_LEAST),),
        5,
        f"{output} tokens, greedy, after six equal lines; drafts are looked up in the text",
    )


def crowded(ground: Ground) -> Trial:
    """(e) Many streams, not to be guessed: drafts only cost."""
    streams, output = 8, 48

    def work(number: int) -> list[Request]:
        rng = random.Random(number)
        made = [request(rng, 0, 24, output) for _ in range(streams)]
        drawn = [replace(one, sampling=Sampling(1.0, seed=rng.randrange(1 << 30))) for one in made]
        return numbered(drawn)

    return Trial(
        _drafting(ground),
        work,
        Heard.tokens_per_s,
        "tokens/s",
        (
            Goal(
                "e",
                "8 unguessable streams, smartspec / none",
                "smartspec",
                "none",
                1.0,
                NEVER_WORSE,
            ),
        ),
        10,
        f"{output} tokens each, drawn at temperature 1; met unless the whole interval is below 1",
    )


def joining(ground: Ground) -> Trial:
    """(h) Answers of many lengths that come one by one: who may join a batch and leave it?"""
    requests, gap_ms = (12 if ground.quick else 24), 150.0

    def work(number: int) -> list[Request]:
        rng, at_ms, made = random.Random(number), 0.0, []
        for _ in range(requests):
            at_ms += rng.expovariate(1 / gap_ms)
            made.append(request(rng, at_ms, rng.randint(16, 120), rng.randint(8, 64)))
        return numbered(made)

    return Trial(
        {
            "flover": ground.host("flover"),
            "static_batching": ground.host("static_batching", options={"batching.batch": "8"}),
        },
        work,
        Heard.mean_e2e_ms,
        "ms",
        (
            Goal(
                "h", "mean E2E, flover / static batching", "flover", "static_batching", 1.0, AT_MOST
            ),
        ),
        5,
        f"{requests} requests, one every {gap_ms:.0f} ms on average, 16 to 120 tokens in, 8 to 64 out; batches of 8",
    )


def _drafting(ground: Ground) -> dict[str, HostSpec]:
    return {"smartspec": ground.host(speculation="smartspec"), "none": ground.host()}
