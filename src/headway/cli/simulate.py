"""`headway simulate`: what would happen, in seconds, without a GPU."""

from typing import TYPE_CHECKING, Annotated

from typer import Option

from headway.cli.output import progress_bar, show, write
from headway.cli.scenario_flags import takes_scenario

if TYPE_CHECKING:
    from headway.api import Scenario

_JSON = "Write JSON to a file, or - for stdout alone."


@takes_scenario()
def simulate(
    scenario: "Scenario",
    *,
    capacity: Annotated[
        bool, Option("--capacity", help="Search for the highest rate that keeps the SLO.")
    ] = False,
    target: Annotated[
        str, Option(metavar="SHARE", help="Attainment that keeping the SLO means.")
    ] = "0.9",
    jobs: Annotated[int, Option(metavar="N", help="Processes for the search.")] = 1,
    json: Annotated[str | None, Option(metavar="FILE", help=_JSON)] = None,
    html: Annotated[str | None, Option(metavar="FILE", help="Write a self-contained page.")] = None,
) -> None:
    """Simulate serving a workload and say what was promised and what was kept."""
    from time import perf_counter

    from headway.api import capacity as search, run
    from headway.api.quantities import share
    from headway.api.runner import with_capacity

    goal = share("--target", target)
    with progress_bar(quiet=json == "-") as progress:
        result = run(scenario, progress=progress)
        if capacity:
            began = perf_counter()
            found = search(scenario, target=goal, jobs=jobs, progress=progress)
            seconds = perf_counter() - began
            result = with_capacity(result, found.rate_rps, found.note, seconds)
    if json != "-":
        show(result.view)
    if json is not None:
        write(json, result.json())
    if html is not None:
        write(html, result.html())
