"""`python -m headway.host.mock FD`: a host of the simulated world, which needs no PyTorch and no model."""

from __future__ import annotations

import asyncio
import signal
import sys

from headway.host.child import run_child
from headway.host.sim_world import open_sim


def main() -> None:
    """Ctrl-C, and often SIGTERM, reach the whole process group: the parent decides what they mean."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    asyncio.run(run_child(int(sys.argv[1]), open_sim))


if __name__ == "__main__":
    main()
