"""An instance in a process of its own: instance + wall clock + executor behind a local socket.

The parent never imports torch: it holds a `ProcessPort`, the child runs `python -m headway.host`.
"""

from headway.host.live import LiveFleet, LiveRun
from headway.host.port import ProcessPort
from headway.host.spec import HostSpec

__all__ = ["HostSpec", "LiveFleet", "LiveRun", "ProcessPort"]
