"""`headway compare`: policies side by side, all with the same requests."""

from typing import TYPE_CHECKING, Annotated

from typer import Context, Option

from headway.cli.output import progress_bar, show, write
from headway.cli.scenario_flags import takes_scenario

if TYPE_CHECKING:
    from headway.api import Scenario

_OWN = {"rates", "jobs", "json", "html", "demo", "seed"}  # flags that the demonstration leaves open


@takes_scenario(batching="all")
def compare(
    scenario: "Scenario",
    *,
    context: Context,
    rates: Annotated[
        str,
        Option(metavar="RATES", help="Offered rates: requests/s, or multiples such as 0.5x,1x,2x."),
    ] = "1x",
    demo: Annotated[
        bool, Option("--demo", help="A ready-made comparison: chat and batch work, two tenants.")
    ] = False,
    jobs: Annotated[int, Option(metavar="N", help="Processes to run in.")] = 1,
    json: Annotated[
        str | None, Option(metavar="FILE", help="Write JSON to a file, or - for stdout alone.")
    ] = None,
    html: Annotated[
        str | None, Option(metavar="FILE", help="Write a self-contained page with fronts.")
    ] = None,
) -> None:
    """Compare policies: every kind takes one name, a list a,b or all; each combination runs."""
    from headway.api import DEMO_CHOICES, DEMO_RATES, compare_runs, demo_scenario
    from headway.runtime.loader import KINDS

    choices = {kind: tuple(getattr(scenario, kind).split(",")) for kind in KINDS}
    wanted = tuple(rates.split(","))
    if demo:
        _refuse_described(context)
        scenario, choices = demo_scenario(scenario.seed), dict(DEMO_CHOICES)
        wanted = DEMO_RATES if rates == "1x" else wanted
    with progress_bar(quiet=json == "-") as progress:
        comparison = compare_runs(scenario, choices, rates=wanted, jobs=jobs, progress=progress)
    if json != "-":
        show(comparison.view, width=140)
    if json is not None:
        write(json, comparison.json())
    if html is not None:
        write(html, comparison.html())


def _refuse_described(context: Context) -> None:
    """Flags that the demonstration would ignore must not pass silently."""
    from headway.errors import OptionError

    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in _OWN and source is not None and source.name == "COMMANDLINE":
            flag = name.replace("_", "-").replace("settings", "set")
            raise OptionError(f"--demo brings its own workload and policies: leave out --{flag}")
