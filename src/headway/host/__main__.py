"""`python -m headway.host FD`: run one instance on an inherited socket until it is drained or the parent is gone."""

from __future__ import annotations

import asyncio
import signal
import sys

from headway.host.child import run_child


def main() -> None:
    """Ctrl-C reaches the whole process group: the parent decides what it means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(run_child(int(sys.argv[1])))


if __name__ == "__main__":
    main()
