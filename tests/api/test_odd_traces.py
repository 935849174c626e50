"""Every shipped policy over traces that nobody tuned it for: all ends, no number is none, no run hangs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

import headway
from headway.runtime import policy_names
from headway.runtime.loader import KINDS

Line = dict[str, Any]


def line(at_s: float, prompt: int, output: int, **more: Any) -> Line:
    return {"arrival_s": at_s, "prompt_tokens": prompt, "output_tokens": output, **more}


def at_once(draw: Random) -> list[Line]:
    return [line(0, draw.randint(1, 2500), draw.randint(1, 60)) for _ in range(24)]


def mostly_too_long(draw: Random) -> list[Line]:
    """Prompts beyond all KV, caps beyond it, and one that hardly fits."""
    sizes = ((50, 512), (9000, 9100), (50, 50_000), (200_000, 512))
    pairs = [draw.choice(sizes) for _ in range(16)]
    return [line(n / 4, prompt, 9, max_tokens=cap) for n, (prompt, cap) in enumerate(pairs)]


def ends_at_the_first_token(draw: Random) -> list[Line]:
    tenants = [f"t{n}" for n in range(50)]
    return [line(n / 90, draw.randint(1, 700), 1, tenant=draw.choice(tenants)) for n in range(30)]


def long_pauses(draw: Random) -> list[Line]:
    times = (0, 1, 86_400, 86_400.001, 2_000_000, 2_000_000)
    return [line(at_s, draw.randint(10, 900), draw.randint(1, 90)) for at_s in times]


def turns_on_a_chain(draw: Random) -> list[Line]:
    """Each prompt goes on where the one before ended, whether or not that has ended."""
    lines, prefix = list[Line](), [[1, 40]]
    for n in range(20):
        prompt, output = sum(tokens for _, tokens in prefix), draw.randint(1, 60)
        promise = draw.choice([{}, {"ttft_s": 0.0001}, {"tpot_s": 0.0}, {"deadline_s": 0.5}])
        more = {"prefix": list(prefix), "next_extent": 100 + n, "session": n % 3, "workflow": n % 2}
        lines.append(line(n * 0.15, prompt, output, **more, **promise))
        prefix += [[100 + n, output], [200 + n, 17]]
    return lines


TRACES = (at_once, mostly_too_long, ends_at_the_first_token, long_pauses, turns_on_a_chain)


def options_for(kind: str, name: str) -> Line:
    if name == "distserve":
        return {"roles": "prefill:1,decode:2"}
    if kind in ("routing", "admission", "control"):
        return {"instances": 3}
    return {"draft_model": "llama-3.2-1b"} if kind == "speculation" else {}


@pytest.mark.slow
@pytest.mark.parametrize("made", TRACES, ids=lambda made: made.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_every_policy_serves_what_it_can(
    kind: str, made: Callable[[Random], list[Line]], tmp_path: Path
) -> None:
    lines = made(Random(made.__name__))
    trace = tmp_path / "odd.jsonl"
    trace.write_text("\n".join(map(json.dumps, lines)))
    fits = sum(one["prompt_tokens"] + one.get("max_tokens", 512) <= 9600 for one in lines)
    for name in policy_names(kind):
        chosen: Line = {kind: name, "kv_blocks": 600, "max_tokens": 512, **options_for(kind, name)}
        result = headway.simulate(trace=str(trace), **chosen)
        summary, outcomes = result.summary, result.summary["outcomes"]
        assert summary["offered"] == len(lines) == sum(outcomes.values()), name
        assert outcomes["rejected"] == len(lines) - fits, name
        assert not outcomes["unfinished"] + outcomes["failed"] + outcomes["returned"], name
        json.loads(result.json(), parse_constant=pytest.fail)  # NaN and infinities
        assert not re.search(r"\b(nan|inf)\b", result.table()), name
