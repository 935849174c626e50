"""`headway reproduce`: published claims, tried by one rule."""

from typing import Annotated

from typer import Argument, Option

from headway.cli.output import progress_bar, show, write


def reproduce(
    name: Annotated[str | None, Argument(help="The system, such as sarathi.")] = None,
    *,
    every: Annotated[bool, Option("--all", help="Try every claim.")] = False,
    listed: Annotated[bool, Option("--list", help="List the registered claims.")] = False,
    seeds: Annotated[int, Option(metavar="N", help="Seeds of every arm; at least 5.")] = 5,
    jobs: Annotated[int, Option(metavar="N", help="Processes to run in.")] = 2,
    json: Annotated[
        str | None, Option(metavar="FILE", help="Write JSON to a file, or - for stdout alone.")
    ] = None,
    page: Annotated[
        str | None, Option(metavar="FILE", help="Write the page of all that was tried.")
    ] = None,
) -> None:
    """Try a published claim against its paper's baseline, a strong one, and where it must gain nothing."""
    import msgspec

    from headway.errors import OptionError
    from headway.reproductions import claims, experiment_names, try_claim
    from headway.reproductions.fairness_front import points, section
    from headway.reproductions.page import listing, markdown, table

    if listed:
        if json is not None:
            write(json, msgspec.json.format(msgspec.json.encode(claims())).decode())
        else:
            show(lambda _: listing(), width=160)
        return
    if (name is None) == (not every):
        raise OptionError("name one claim, or give --all; --list shows what there is")
    names = experiment_names() if name is None else [name]
    rows = []
    with progress_bar(quiet=json == "-") as progress:
        for done, one in enumerate(names):

            def tell(part: int, whole: int, one: str = one, done: int = done) -> None:
                if progress:
                    progress(f"trying {one}", done + part / whole, len(names))

            rows.append(try_claim(one, seeds=seeds, jobs=jobs, progress=tell).row())
    if json != "-":
        show(lambda _: table(rows), width=120)
    if json is not None:
        write(json, msgspec.json.format(msgspec.json.encode(rows)).decode())
    if page is not None:
        front = section(points()) if every else []
        write(page, markdown(rows, front))
