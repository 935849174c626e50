"""Soak a server: random arrivals, lengths and aborts for minutes, with too little KV. Nothing may leak.

usage: python bench/soak_server.py [--seconds 600] [--rate 6] [--world sim] [--json FILE]

Starts `headway serve` with few KV blocks, so that sequences are preempted all the time. Every so often a client hangs
up in the middle. Afterwards the server must be idle, all KV blocks free, and answer a control request as it did at
first; its memory may not have grown by more than a tenth after the first third.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

from headway.demo.live_server import serving

KV_BLOCKS = 160
CONTROL = {"prompt": [2, 1000, 2000, 3000], "max_tokens": 12, "temperature": 0, "ignore_eos": True}


def resident_mb(command: str) -> float:
    """Memory of every process whose command line holds `command`, and of their children."""
    pids: dict[int, int] = {}
    roots = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                pids[int(entry.name)] = int(
                    (entry / "stat").read_text().rpartition(")")[2].split()[1]
                )
                if command in (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode():
                    roots.append(int(entry.name))
            except OSError:
                continue
    tree = set(roots)
    for _ in range(4):
        tree |= {pid for pid, parent in pids.items() if parent in tree}
    total = 0
    for pid in tree - {os.getpid()}:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Rss:"))
    return total / 1024


async def call(session: aiohttp.ClientSession, url: str, rng: random.Random) -> str:
    """One client: it may be impatient."""
    body = {
        "prompt": [2] + [rng.randrange(1000, 30_000) for _ in range(rng.randrange(1, 400))],
        "max_tokens": rng.randrange(1, 120),
        "temperature": rng.choice([0, 0.8]),
        "stream": rng.random() < 0.7,
        "ignore_eos": rng.random() < 0.8,
        "n": rng.choice([1, 1, 1, 2]),
    }
    patience = rng.uniform(0.05, 6) if rng.random() < 0.35 else 300
    try:
        async with asyncio.timeout(patience):
            async with session.post(f"{url}/v1/completions", json=body) as reply:
                await reply.read()
                return str(reply.status)
    except TimeoutError:
        return "hung up"
    except aiohttp.ClientError as error:
        return type(error).__name__


async def control(session: aiohttp.ClientSession, url: str) -> str:
    async with session.post(f"{url}/v1/completions", json=CONTROL) as reply:
        return str((await reply.json())["choices"][0]["text"])


async def metric(session: aiohttp.ClientSession, url: str, name: str) -> float:
    async with session.get(f"{url}/metrics") as reply:
        lines = (await reply.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


async def soak(url: str, seconds: float, rate: float) -> dict[str, Any]:
    rng, counts, memory = random.Random(1), dict[str, int](), []
    tasks: set[asyncio.Task[str]] = set()

    def ended(task: asyncio.Task[str]) -> None:
        tasks.discard(task)
        counts[task.result()] = counts.get(task.result(), 0) + 1

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        first = await control(session, url)
        began = time.monotonic()
        sampled = 0.0
        while (now := time.monotonic() - began) < seconds:
            task = asyncio.create_task(call(session, url, rng))
            task.add_done_callback(ended)
            tasks.add(task)
            if now - sampled > 5:
                sampled = now
                memory.append(resident_mb("headway serve --port"))
                print(
                    f"{now:5.0f} s  {sum(counts.values())} ended, {len(tasks)} open, {memory[-1]:.0f} MB",
                    file=sys.stderr,
                )
            await asyncio.sleep(rng.expovariate(rate))
        while tasks:
            await asyncio.wait(tasks, timeout=5)
        await asyncio.sleep(1.5)
        async with session.get(f"{url}/load") as reply:
            load = await reply.json()
        usage = await metric(session, url, "vllm:kv_cache_usage_perc{")
        preemptions = await metric(session, url, "vllm:num_preemptions_total{")
        last = await control(session, url)
    third = memory[len(memory) // 3 :] or [0.0]
    return {
        "seconds": seconds, "outcomes": counts, "preemptions": preemptions, "load": load,
        "kv_usage": usage, "control_identical": first == last,
        "memory_mb": {"after_a_third": round(third[0]), "end": round(third[-1]), "most": round(max(third))},
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rate", type=float, default=3.0)
    parser.add_argument("--world", choices=("live", "sim"), default="live")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    flags = [
        f"--world={args.world}",
        f"--kv-blocks={KV_BLOCKS}",
        "--batching=sarathi",
        "--max-model-len=1024",
    ]
    with tempfile.TemporaryDirectory() as folder, serving(flags, Path(folder) / "run.jsonl") as url:
        found = asyncio.run(soak(url, args.seconds, args.rate))
    flat = found["memory_mb"]["end"] <= 1.1 * found["memory_mb"]["after_a_third"]
    errors = [status for status in found["outcomes"] if status.startswith("5") and status != "503"]
    idle = not any(value for value in found["load"].values() if isinstance(value, int | float))
    found["passed"] = bool(
        flat and idle and not errors and found["control_identical"] and found["kv_usage"] == 0
    )
    text = json.dumps(found, indent=1)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")
    return 0 if found["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
