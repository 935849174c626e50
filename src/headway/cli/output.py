"""Where output goes: results to stdout, all else to stderr; a progress bar only for people who wait."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

_PATIENCE_S = 1.0

Progress = Callable[[str, float, float | None], None]


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[Progress | None]:
    """Yield what to tell of progress; a bar appears on stderr after a second, on a terminal only."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    began = monotonic()
    bar: Any = None
    task: Any = None

    def tell(what: str, done: float, total: float | None) -> None:
        nonlocal bar, task
        if bar is None:
            if monotonic() - began < _PATIENCE_S:
                return
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
            bar = Progress(*columns, console=Console(stderr=True), transient=True)
            bar.start()
            task = bar.add_task(what, total=total)
        bar.update(task, description=what, completed=done, total=total)

    try:
        yield tell
    finally:
        if bar is not None:
            bar.stop()


def show(view: Callable[[int], Any], *, width: int = 100) -> None:
    """Print a table made for the width at hand: the terminal's, or `width` characters in a file."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=width)
    console.print(view(console.width), crop=False)


def write(path: str, text: str) -> None:
    """Write to a file, or to stdout when it is `-`.

    Raises:
        OptionError: the file cannot be written.
    """
    from headway.errors import OptionError

    if path == "-":
        sys.stdout.write(text.rstrip("\n") + "\n")
        return
    try:
        Path(path).write_text(text.rstrip("\n") + "\n", "utf-8")
    except OSError as error:
        raise OptionError(
            f"cannot write {path}: {error.strerror}: give a path in a writable folder"
        ) from error
    print(f"wrote {path}", file=sys.stderr)
