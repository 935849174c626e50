"""The line that says how it goes, every ten seconds while there is work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from headway.server.gateway import FleetGateway, Totals

BEAT_S = 10.0


async def beat(gateway: FleetGateway, say: Callable[[str], None], every_s: float = BEAT_S) -> None:
    """Say a line whenever something happened since the last one. Runs until cancelled."""
    before = replace(gateway.totals)
    while True:
        await asyncio.sleep(every_s)
        now, load = replace(gateway.totals), gateway.load()
        if now != before or load.running or load.waiting:
            say(line(before, now, load.running, load.waiting, load.kv_usage, every_s))
        before = now


def line(
    before: Totals, now: Totals, running: int, waiting: int, kv_usage: float, seconds: float
) -> str:
    """What happened between two moments `seconds` apart."""
    prompt = (now.prompt_tokens - before.prompt_tokens) / seconds
    output = (now.output_tokens - before.output_tokens) / seconds
    parts = [
        f"prompt {prompt:.1f} tokens/s",
        f"generation {output:.1f} tokens/s",
        f"running {running}",
        f"waiting {waiting}",
        f"KV {kv_usage:.1%}",
    ]
    promised = now.promised - before.promised
    if promised:
        parts.append(f"SLO {(now.attained - before.attained) / promised:.1%} of {promised}")
    if now.shed > before.shed:
        parts.append(f"shed {now.shed - before.shed}")
    return ", ".join(parts)
