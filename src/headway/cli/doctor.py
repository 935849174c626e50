"""`headway doctor`: is everything here that serving needs?"""

import json as json_text
import sys
from typing import Annotated

from typer import Exit, Option


def doctor(
    *,
    port: Annotated[int, Option(min=1, max=65535, help="Port to look at.")] = 8000,
    json: Annotated[bool, Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at versions, processor, memory, extras, torch, model and port; say what to fix."""
    from rich.table import Table

    from headway.cli.output import progress_bar, show
    from headway.server.checkup import OK, PROBLEM, checkup

    findings = []
    with progress_bar(quiet=json) as progress:
        for finding in checkup(port):
            findings.append(finding)
            if progress:
                progress(f"looked at {finding.what}", len(findings), None)
    problems = sum(finding.state == PROBLEM for finding in findings)
    if json:
        print(json_text.dumps([finding._asdict() for finding in findings], indent=2))
    else:

        def table(_: int) -> Table:
            built = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
            for finding in findings:
                state = "" if finding.state == OK else finding.state
                fix = f"\n-> {finding.fix}" if finding.fix else ""
                built.add_row(finding.what, finding.value + fix, state)
            return built

        show(table)
        print(f"problems: {problems or 'none'}")
    if problems:
        sys.stdout.flush()
        raise Exit(1)
