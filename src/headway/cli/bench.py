"""`headway bench`: what clients of any OpenAI-compatible server get, measured from when they asked."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

from typer import Exit, Option

from headway.cli.bench_flags import takes_bench_flags
from headway.cli.output import progress_bar, show, write

if TYPE_CHECKING:
    from headway.loadgen import Measured

_JSON = "Write JSON to a file, or - for stdout alone; the keys are those of vllm bench serve."
_INTERRUPTED = 130


@takes_bench_flags
def bench(
    given: SimpleNamespace,
    *,
    json: Annotated[str | None, Option(metavar="FILE", help=_JSON)] = None,
    save_detailed: Annotated[
        bool, Option("--save-detailed", help="Every request in the JSON.")
    ] = False,
    html: Annotated[str | None, Option(metavar="FILE", help="Write a self-contained page.")] = None,
) -> None:
    """Send a workload to an OpenAI-compatible server on schedule and say what was promised and kept."""
    from headway.cli.bench_plan import plan_of, slo_texts
    from headway.loadgen import bench as measure

    plan = plan_of(given, detailed=save_detailed)
    with progress_bar(quiet=json == "-") as progress:
        measured = measure(plan, progress)
    if json != "-":
        show(lambda width: _view(measured, slo_texts(given), width))
    if json is not None:
        write(json, measured.json(detailed=save_detailed))
    if html is not None:
        from headway.report.bench_page import bench_html

        definitions = measured.definitions()
        write(html, bench_html(measured.document(), measured.curves, measured.title, definitions))
    if measured.partial:
        raise Exit(_INTERRUPTED)


def _view(measured: "Measured", slos: list[str], width: int) -> Any:
    """The run as the simulator shows one, and what a client must know besides."""
    from rich.console import Group
    from rich.text import Text

    from headway.api.pages import run_view
    from headway.report.numbers import milliseconds, number, percent

    told, lengths = measured.generator, measured.lengths
    loud = [said for said in (told["verdict"], measured.partial) if said]
    lag = " / ".join(milliseconds(told[f"lag_{key}_ms"]) for key in ("p50", "p99", "max"))
    client = (
        f"Generator lag p50 / p99 / max {lag} ms (limit {number(told['lag_limit_ms'])} ms); "
        f"{number(told['cpu_us_per_token'], 3)} µs of CPU a token, "
        f"{percent(told['cpu_share'])} of a core."
    )
    work = (
        f"Lengths by the server's usage: prompts {percent(lengths['prompt_achieved'])} and outputs "
        f"{percent(lengths['output_achieved'])} of what was asked; "
        f"{number(lengths['tokens_per_event'])} tokens an event."
    )
    lines = [client, work]
    if (told["held_p99_ms"] or 0) > 1:
        lines.append(
            f"Held back by --max-concurrency, p99: {milliseconds(told['held_p99_ms'])} ms, "
            "part of every latency above."
        )
    table = run_view(measured.title, measured.summary, slos, {}, measured.notes, width)
    return Group(
        *(Text(said, style="bold red") for said in loud),
        table,
        *(Text(line, style="dim") for line in lines),
    )
