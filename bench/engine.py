"""How fast the engine is on the embedded model, in process, beside its peers in the same run.

Usage: python bench/engine.py [--quick] [--dtype auto|bfloat16|float32] [--threads N] [--no-transformers]
       [--vllm URL] [--json FILE]
Every round measures each thing once, one after the other, so that a busy machine hurts all of them; the best round
counts. Steps are the decoder's, without the runtime, a server or a tokenizer. `--vllm` times a server that serves the
same model, over HTTP. Numbers of one run compare with each other; those of different runs do not.
"""

from __future__ import annotations

import argparse
import importlib
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence as Seq
from functools import partial

import torch

from _engine_peers import Machine, OverHttp, Transformers
from _measuring import AT_LEAST, AT_MOST, Row, child, machine, say, table, write_json
from headway.checkpoint.gguf_file import GgufFile
from headway.engine.kv_pool import KvPool
from headway.engine.largest import peak
from headway.engine.layout import Span, lay_out
from headway.engine.linear import native_dtype
from headway.engine.load import EMBEDDED, load_embedded

STREAMS, INPUT, OUTPUT = 16, 256, 64
BLOCK, CONTEXT = 16, 1088
BUDGET = 1024  # prompt tokens of one step
DECODED = 32  # tokens a stream decodes alone
SETTLE_S = 0.5  # a peer's threads may wait awake for a while after its turn
FLOORS = {"read": "GB/s", "multiply": "GFLOP/s"}

LOADING = """
import sys, time, torch
torch.set_num_threads({threads})
began = time.perf_counter()
from headway.engine.load import load_embedded
model = load_embedded(torch.{dtype})
from pathlib import Path
status = Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else []
kb = [int(line.split()[1]) for line in lines if line.startswith("VmRSS")]
print(time.perf_counter() - began, kb[0] / 1024 if kb else 0)
"""


class Engine:
    """The embedded model and KV for all streams."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.model = load_embedded(dtype).model
        per_stream = -(-CONTEXT // BLOCK)
        self._pool = KvPool(self.model.config, STREAMS * per_stream, BLOCK, self.model.dtype)
        numbers = list(range(STREAMS * per_stream))
        random.Random(5).shuffle(numbers)
        self._blocks = [numbers[n * per_stream : (n + 1) * per_stream] for n in range(STREAMS)]

    @torch.inference_mode()
    def step(self, texts: dict[int, Seq[int]], start: int) -> list[int]:
        """Compute the tokens of some streams from position `start`, and return what comes next."""
        spans = [Span(start, len(ids), self._blocks[stream]) for stream, ids in texts.items()]
        layout = lay_out(spans, BLOCK, self.model.config.window)
        hidden = self.model.embed(torch.tensor([token for ids in texts.values() for token in ids]))
        rotations = self.model.rotations(layout.positions)
        for layer in range(self.model.config.layers):
            hidden = self.model.layer(layer, hidden, layout, rotations, self._pool)
        last = [row + span.tokens - 1 for row, span in zip(layout.rows, spans, strict=True)]
        found: list[int] = peak(self.model.head(hidden[last])).ids[:, 0].tolist()
        return found

    def generate(self, prompts: Seq[Seq[int]], tokens: int) -> float:
        """Return the seconds prompts of one length take: prefilled by the budget, decoded together."""
        began = time.perf_counter()
        at_once = max(1, BUDGET // len(prompts[0]))
        said: list[int] = []
        for first in range(0, len(prompts), at_once):
            some = prompts[first : first + at_once]
            said += self.step(dict(enumerate(some, first)), 0)
        for position in range(len(prompts[0]), len(prompts[0]) + tokens - 1):
            said = self.step({stream: [token] for stream, token in enumerate(said)}, position)
        return time.perf_counter() - began

    def decode(self, streams: int, steps: int) -> float:
        """Return the seconds of one step of decodes, with 300 tokens of context each."""
        began = time.perf_counter()
        for number in range(steps):
            self.step({stream: [100 + number] for stream in range(streams)}, 300)
        return (time.perf_counter() - began) / steps


def prompts_of(count: int, length: int) -> list[list[int]]:
    draw = random.Random(7)
    return [[2, *(draw.randrange(1000, 200_000) for _ in range(length - 1))] for _ in range(count)]


def works_of(engine: Engine) -> dict[str, Callable[[], float]]:
    """Return what is timed of the engine: seconds by name."""
    return {
        "TTFT 128": partial(engine.generate, prompts_of(1, 128), 1),
        "TTFT 1024": partial(engine.generate, prompts_of(1, 1024), 1),
        "alone": partial(engine.generate, prompts_of(1, INPUT), DECODED + 1),
        "c16": partial(engine.generate, prompts_of(STREAMS, INPUT), OUTPUT),
        "step B=1": partial(engine.decode, 1, 8),
        "step B=4": partial(engine.decode, 4, 8),
        "step B=16": partial(engine.decode, 16, 4),
    }


def peer_works(name: str, peer: Transformers | OverHttp) -> dict[str, Callable[[], float]]:
    return {
        f"{name} TTFT 1024": partial(peer.generate, prompts_of(1, 1024), 1),
        f"{name} first": partial(peer.generate, prompts_of(1, INPUT), 1),
        f"{name} alone": partial(peer.generate, prompts_of(1, INPUT), DECODED + 1),
        f"{name} c16": partial(peer.generate, prompts_of(STREAMS, INPUT), OUTPUT),
    }


def loading(dtype: torch.dtype, threads: int, times: int) -> tuple[float, float, float]:
    """Return least seconds to load, resident and peak MB, each in a process of its own."""
    name = str(dtype).removeprefix("torch.")
    script = LOADING.format(threads=threads, dtype=name)
    told = []
    for _ in range(times):
        sample, printed = child([sys.executable, "-c", script], stdout=subprocess.PIPE)
        seconds, resident = map(float, printed.split())
        told.append((seconds, resident, sample.rss_mb))
        say(f"loading: {seconds:.1f} s, {resident:,.0f} MB, {sample.rss_mb:,.0f} at most")
    seconds, resident, most = (min(each) for each in zip(*told, strict=True))
    return seconds, resident, most


def rounds(
    works: dict[str, Callable[[], float]], bare: Machine, times: int
) -> dict[str, list[float]]:
    """Time everything once a round, the machine between the things; the first round warms up."""
    taken: dict[str, list[float]] = {name: [] for name in (*works, *FLOORS)}
    for number in range(times + 1):
        for name, work in works.items():
            time.sleep(SETTLE_S)
            seconds = work()
            read, multiply = bare.read_gb_s(), bare.multiply_gflop_s()
            if number:
                taken[name].append(seconds)
                taken["read"].append(read)
                taken["multiply"].append(multiply)
        say(f"round {number}/{times}" + ("" if number else " (to warm up)"))
    return taken


def verdict(engine: Engine, taken: dict[str, list[float]]) -> list[Row]:
    """Return the engine's own numbers, and its distance from what memory and multiplier give."""
    best = {name: min(times) for name, times in taken.items() if name not in FLOORS}
    speeds = {name: max(taken[name]) for name in FLOORS}
    how = f"best of {len(taken['c16'])} rounds"
    alone = (best["alone"] - first_of(taken)) / DECODED
    tokens = STREAMS * OUTPUT
    rows = [
        Row("TTFT, 128 tokens", 1e3 * best["TTFT 128"], "ms", None, AT_MOST, how),
        Row("TTFT, 1024 tokens", 1e3 * best["TTFT 1024"], "ms", 760, AT_MOST, how),
        Row("decode alone", 1 / alone, "tokens/s", 38, AT_LEAST, f"{how}, {INPUT} tokens before"),
        Row("16 streams", tokens / best["c16"], "tokens/s", 230, AT_LEAST, f"{how}, {INPUT} in, {OUTPUT} out"),
    ]  # fmt: skip
    for streams in (1, 4, 16):
        name = f"step B={streams}"
        rows.append(Row(name, 1e3 * best[name], "ms", None, AT_MOST, f"{how}, 300 tokens before"))
    rows += [Row(name, speeds[name], unit, None, AT_LEAST, how) for name, unit in FLOORS.items()]
    body = engine.model.bytes
    floor = body / speeds["read"] / 1e9
    how = f"{body / 1e6:,.0f} MB of weights at the speed of read, over a step at B=1"
    rows.append(Row("share of bandwidth", floor / best["step B=1"], "", None, AT_LEAST, how))
    config = engine.model.config
    weights = config.layers * (
        config.hidden * config.head_size * 2 * (config.heads + config.kv_heads)
        + 3 * config.hidden * config.ffn
    )
    floor = 2 * 1024 * weights / speeds["multiply"] / 1e9
    how = "the body's products over 1,024 tokens at the speed of multiply, over TTFT"
    rows.append(Row("share of multiplier", floor / best["TTFT 1024"], "", None, AT_LEAST, how))
    return rows


def first_of(taken: dict[str, list[float]]) -> float:
    """Seconds until the first token after INPUT tokens of prompt."""
    return min(taken["first"])


def beside(name: str, taken: dict[str, list[float]]) -> list[Row]:
    """Return the engine over a peer, from the same rounds."""
    best = {work: min(times) for work, times in taken.items() if work not in FLOORS}
    ours, theirs = best["alone"] - best["first"], best[f"{name} alone"] - best[f"{name} first"]
    tokens = STREAMS * OUTPUT
    prompt, crowd = best[f"{name} TTFT 1024"], best[f"{name} c16"]
    shown = {
        "TTFT 1024": (prompt / best["TTFT 1024"], f"{1e3 * prompt:,.0f} ms there"),
        "alone": (theirs / ours, f"{DECODED / theirs:.1f} tokens/s there"),
        "16 streams": (crowd / best["c16"], f"{tokens / crowd:,.0f} tokens/s there"),
    }
    return [
        Row(f"{work}, times {name}", ratio, "×", 1.0, AT_LEAST, how)
        for work, (ratio, how) in shown.items()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round instead of five")
    parser.add_argument("--dtype", choices=("auto", "bfloat16", "float32"), default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--no-transformers", action="store_true", help="leave that peer out")
    parser.add_argument("--vllm", metavar="URL", help="a server of the same model, for comparison")
    parser.add_argument("--json", metavar="FILE", help="write all samples there")
    asked = parser.parse_args()
    dtype = native_dtype() if asked.dtype == "auto" else getattr(torch, asked.dtype)
    torch.set_num_threads(asked.threads)
    before = machine()
    seconds, resident, most = loading(dtype, asked.threads, 1 if asked.quick else 3)
    engine = Engine(dtype)
    works = works_of(engine) | {"first": partial(engine.generate, prompts_of(1, INPUT), 1)}
    peers: list[str] = []
    if not asked.no_transformers:
        say("making the same model in transformers")
        file = GgufFile(importlib.import_module(EMBEDDED).chunk_paths())
        works |= peer_works("transformers", Transformers(file, dtype))
        peers.append("transformers")
    if asked.vllm:
        works |= peer_works("vLLM", OverHttp(asked.vllm))
        peers.append("vLLM")
    taken = rounds(works, Machine(dtype), 1 if asked.quick else 5)
    rows = [
        Row("load", seconds, "s", 6, AT_MOST, "least of some processes, import of torch counted"),
        Row("resident after it", resident, "MB", 1600, AT_MOST, "of the same processes"),
        Row("... most", most, "MB", None, AT_MOST, "peak of the same processes"),
        *verdict(engine, taken),
        *(row for peer in peers for row in beside(peer, taken)),
    ]
    after = {f"{name}_after": machine()[name] for name in ("load_average", "reference_ms")}
    facts = before | after | {"dtype": str(dtype), "threads": asked.threads, "samples_s": taken}
    told = "; ".join(f"{name}: {value}" for name, value in facts.items() if name != "samples_s")
    print(f"headway engine, {EMBEDDED}\n{told}\n\n{table(rows)}")
    if asked.json:
        write_json(asked.json, facts, rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
