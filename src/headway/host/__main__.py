"""`python -m headway.host FD`: run one instance on an inherited socket until it is drained or the parent is gone."""

from __future__ import annotations

import asyncio
import signal
import sys

from headway.host.child import run_child
from headway.host.live_world import open_live


def main() -> None:
    """Ctrl-C, and often SIGTERM, reach the whole process group: the parent decides what they mean."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    asyncio.run(run_child(int(sys.argv[1]), open_live))


if __name__ == "__main__":
    main()
