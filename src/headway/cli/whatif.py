"""`headway whatif`: what a measured run would have been under other policies or on another device."""

from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from headway.cli.change_flags import takes_change
from headway.cli.output import progress_bar, show, write

if TYPE_CHECKING:
    from headway.api import Change


@takes_change
def whatif(
    run: Annotated[
        str, Argument(metavar="RUN", help="Run log, or a result file as calibrate reads it.")
    ],
    change: "Change",
    *,
    slo: Annotated[
        list[str] | None,
        Option(metavar="[CLASS:]TARGETS", help="Judge every column by ttft=1s,tpot=60ms."),
    ] = None,
    profile: Annotated[
        str | None, Option(metavar="FILE", help="Step times from here [default: from the run].")
    ] = None,
    measured_gpu: Annotated[str, Option(help="Device that a result file was measured on.")] = "",
    measured_model: Annotated[str, Option(help="Model of a result file.")] = "",
    measured_blocks: Annotated[
        str, Option(metavar="N", help="KV blocks that the engine of a result file had.")
    ] = "0",
    measured_set: Annotated[
        list[str] | None,
        Option(metavar="POLICY.OPTION=VALUE", help="What the engine of a result file had set."),
    ] = None,
    draws: Annotated[str, Option(metavar="N", help="Resamples that intervals come from.")] = "20",
    seed: Annotated[int, Option(help="Seed of every draw.")] = 0,
    json: Annotated[
        str | None, Option(metavar="FILE", help="Write JSON to a file, or - for stdout alone.")
    ] = None,
    html: Annotated[str | None, Option(metavar="FILE", help="Write a self-contained page.")] = None,
) -> None:
    """Show a run as measured, as replayed with its own step times, and as it would have been with a change."""
    from headway.api.policy_choices import parse_settings
    from headway.api.quantities import count
    from headway.api.what_if import whatif as ask

    with progress_bar(quiet=json == "-") as progress:
        told = ask(
            run,
            change,
            slo=slo or (),
            profile=profile,
            measured_gpu=measured_gpu,
            measured_model=measured_model,
            measured_blocks=count("--measured-blocks", measured_blocks, least=0),
            measured_options=parse_settings(measured_set or ()),
            draws=count("--draws", draws, least=2),
            seed=seed,
            progress=progress,
        )
    if json != "-":
        show(told.view, width=120)
    if json is not None:
        write(json, told.json())
    if html is not None:
        write(html, told.html())
