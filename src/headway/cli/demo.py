"""`headway demo`: the story in two minutes."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    html: Annotated[Path, typer.Option(metavar="FILE", help="Where the page goes.")] = Path(
        "report.html"
    ),
) -> None:
    """Serve a real model, calibrate, forecast an overload under two policies, and run it for real."""
    from rich.console import Console

    from headway.demo import tell

    tell(Console(), html)
