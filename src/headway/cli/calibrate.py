"""`headway calibrate`: measured step times as a profile that every forecast can use."""

from typing import Annotated

from typer import Argument, Option

from headway.cli.output import show, write


def calibrate(
    logs: Annotated[
        list[str],
        Argument(
            metavar="LOG...",
            help="Run logs (serve --run-log); or one result file of vllm bench serve, GuideLLM or AIPerf.",
        ),
    ],
    *,
    output: Annotated[
        str | None, Option("--output", "-o", metavar="FILE", help="Write the profile, as TOML.")
    ] = None,
    gpu: Annotated[
        str, Option("--gpu", "--device", help="Device of a result file, which does not name it.")
    ] = "",
    model: Annotated[str, Option(help="Model of a result file, likewise.")] = "",
    warmup: Annotated[
        int,
        Option(
            metavar="N", min=0, help="Leave out steps until the first N requests of a log ended."
        ),
    ] = 0,
    json: Annotated[
        str | None, Option(metavar="FILE", help="Write JSON to a file, or - for stdout alone.")
    ] = None,
) -> None:
    """Fit step times to what was measured, and say how well they predict steps that the fit did not see."""
    from headway.api.calibration import calibrate as fit
    from headway.timing import profile_text

    made = fit(logs, gpu=gpu, model=model, warmup=warmup)
    if output != "-" and json != "-":
        show(made.view)
    if json is not None:
        write(json, made.json())
    if output is not None:
        write(output, profile_text(made.profile))
