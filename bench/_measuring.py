"""What the measurements of this folder share: the machine's facts, timed work, children, and the verdict table."""

from __future__ import annotations

import gc
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence as Seq
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
AT_LEAST, AT_MOST = "≥", "≤"


@dataclass(frozen=True)
class Sample:
    """Seconds of one piece of work; `rss_mb` of a child is the most memory it held."""

    wall_s: float
    cpu_s: float  # user and system time of the process that did it
    rss_mb: float = 0.0


@dataclass(frozen=True)
class Row:
    """One line of the verdict. `ratio` above 1 is better than the target, whichever way is better."""

    name: str
    measured: float
    unit: str
    target: float | None
    bound: str  # AT_LEAST or AT_MOST
    how: str  # what was measured, by which clock, of how many samples
    wall: float | None = None  # the same by the wall clock, where `measured` is by CPU time
    samples: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float | None:
        """How many times better than the target."""
        if not self.target or not self.measured:
            return None
        share = self.measured / self.target
        return share if self.bound == AT_LEAST else 1 / share

    @property
    def met(self) -> bool | None:
        """None when there is no target."""
        return None if self.ratio is None else self.ratio >= 1


def say(words: str) -> None:
    """Progress goes to stderr: stdout is for the table."""
    print(words, file=sys.stderr, flush=True)


def machine() -> dict[str, object]:
    """What a reader needs to judge the numbers. The load counts other people's work too."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "reference_ms": reference_ms(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def reference_ms() -> float:
    """CPU milliseconds of a fixed bit of plain Python: how fast this machine is just now."""
    times = []
    for _ in range(3):
        began = time.process_time()
        table: dict[int, list[int]] = {}
        for number in range(200_000):
            table.setdefault(number % 9973, []).append(number)
        times.append(time.process_time() - began)
    return round(1000 * min(times), 1)


def timed(work: Callable[[], object]) -> Sample:
    """Run `work` here, garbage of earlier work collected before."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Sample(time.perf_counter() - wall, time.process_time() - cpu)


def child(command: Seq[str], *, stdout: int | None = subprocess.DEVNULL) -> tuple[Sample, str]:
    """Run a command to its end, and what it printed if `stdout` is a pipe.

    Raises:
        RuntimeError: it failed; its stderr is in the message.
    """
    began = time.perf_counter()
    # stderr is short in all that is measured here: a pipe read after the end cannot fill up.
    with subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True) as process:
        printed = process.stdout.read() if process.stdout else ""
        errors = process.stderr.read() if process.stderr else ""
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {errors.strip()[-500:]}")
    in_kb = 1024 if sys.platform == "darwin" else 1
    sample = Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / in_kb / 1024)
    return sample, printed


def rates(
    name: str, requests: int, samples: Seq[Sample], target: float | None, more: str = ""
) -> Row:
    """Requests per second of CPU time, median over samples, with the wall clock beside it."""
    by_cpu = [requests / sample.cpu_s for sample in samples]
    by_wall = median(requests / sample.wall_s for sample in samples)
    how = f"median of {len(samples)}, best {max(by_cpu):,.0f}, of {requests:,} requests"
    how = f"{how}; {more}" if more else how
    return Row(name, median(by_cpu), "requests/s", target, AT_LEAST, how, by_wall, by_cpu)


def table(rows: Seq[Row]) -> str:
    """Rows as text: measured, target, ratio, verdict; then how each was measured."""
    lines = [f"{'':34}{'measured':>18}{'by wall':>10}{'target':>12}{'ratio':>8}  met"]
    for row in rows:
        bound = "" if row.target is None else f"{row.bound} {_short(row.target)}"
        wall = "" if row.wall is None else _short(row.wall)
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        met = {True: "yes", False: "NO", None: ""}[row.met]
        number = f"{_short(row.measured)} {row.unit}".strip()
        lines.append(f"{row.name:34}{number:>18}{wall:>10}{bound:>12}{ratio:>8}  {met}")
        lines.append(f"    {row.how}")
    return "\n".join(lines)


def write_json(path: str, facts: dict[str, object], rows: Seq[Row]) -> None:
    """Everything, samples included."""
    told = [asdict(row) | {"ratio": row.ratio, "met": row.met} for row in rows]
    Path(path).write_text(json.dumps({"machine": facts, "rows": told}, indent=2) + "\n", "utf-8")


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
