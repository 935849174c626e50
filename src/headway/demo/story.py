"""Tell the story on a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from headway.api import compare_runs, demo_scenario
from headway.demo.live_part import LivePart, run_part

METRICS = (
    ("mean TTFT", "mean_ttft_ms", "ms"),
    ("p99 TTFT", "p99_ttft_ms", "ms"),
    ("mean TPOT", "mean_tpot_ms", "ms"),
    ("p99 ITL", "p99_itl_ms", "ms"),
    ("output throughput", "output_throughput", "tokens/s"),
)
SHOWN_BATCHING = ("prefill_first", "sarathi", "splitfuse")
SHOWN_ORDERING = ("fcfs", "earliest_deadline")
_SHOWN = 64  # characters of a prompt


def tell(console: Console, html: Path) -> None:
    """Compare, run, and hold the forecast against what was measured; `html` gets the comparison's page."""
    console.print(
        "[bold]1. The simulator compares policies[/]: conversations on Llama-3.1-8B and one H100, "
        "70 % chat with tight targets, two tenants."
    )
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("simulating", total=None)
        comparison = compare_runs(
            demo_scenario(),
            {"batching": SHOWN_BATCHING, "ordering": SHOWN_ORDERING},
            rates=("1.5x",),
            progress=lambda _, done, total: progress.update(task, completed=done, total=total),
        )
    console.print(comparison.view(console.width))
    html.parent.mkdir(parents=True, exist_ok=True)
    html.write_text(comparison.html("headway demo: policies compared"), encoding="utf-8")
    console.print(f"The same as a page, with fronts: {html}")
    console.print(
        "\n[bold]2. The same policy file on a real model[/]: sarathi serves Gemma-3-270M on this machine's "
        "CPU, fp32, greedy; prompts are token ids, one of them long."
    )
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("loading", total=None)
        part = run_part(
            lambda what, done, total: progress.update(
                task, description=what, completed=done, total=total or None
            )
        )
    _show_texts(console, part)
    _show_forecast(console, part)


def _show_texts(console: Console, part: LivePart) -> None:
    table = Table(title=f"{part.model}, loaded in {part.load_s:.1f} s", show_lines=False)
    table.add_column("prompt", style="dim")
    table.add_column("continued")
    for prompt, text in zip(part.prompts, part.texts, strict=True):
        shown = prompt if len(prompt) <= _SHOWN else f"({len(prompt)} characters) …{prompt[-30:]}"
        table.add_row(shown, " ".join(text.split()))
    console.print(table)


def _show_forecast(console: Console, part: LivePart) -> None:
    timing = part.timing
    console.print(
        f"\n[bold]3. Forecast beside measurement[/]: the simulator ran the same requests under the same "
        f"policy, with step times from a short probe before it: {timing.base_ns / 1e6:.1f} ms a step, "
        f"{timing.token_ns / 1e6:.2f} ms a token, {timing.sequence_ns / 1e6:.1f} ms a sequence."
    )
    table = Table()
    table.add_column("metric")
    for heading in ("forecast", "measured", "forecast / measured"):
        table.add_column(heading, justify="right")
    for label, key, unit in METRICS:
        expected, measured = part.forecast[key], part.measured[key]
        table.add_row(
            f"{label} ({unit})", _number(expected), _number(measured), _ratio(expected, measured)
        )
    console.print(table)
    finished = sum(outcome == "finished" for outcome in part.outcomes.values())
    console.print(f"{finished} of {len(part.outcomes)} requests finished.")


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:,.1f}"


def _ratio(expected: Any, measured: Any) -> str:
    return f"{expected / measured:.2f}" if expected is not None and measured else "–"
