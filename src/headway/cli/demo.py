"""`headway demo`: the story in a minute."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    html: Annotated[
        Path, typer.Option(metavar="FILE", help="Where the comparison page goes.")
    ] = Path("reports/demo.html"),
) -> None:
    """Compare policies, run one on a real model, and hold the forecast against the measurement."""
    from rich.console import Console

    from headway.demo import tell

    tell(Console(), html)
