"""A child of sim_speed.py: many instances behind `two_choices`, on one core.

Usage: python bench/_big_fleet.py REQUESTS INSTANCES
A process of its own, so that its peak memory is its own. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import time

import headway

RATE_RPS = 5.5  # per instance: Azure's conversations of 2023


def main() -> None:
    requests, instances = map(int, sys.argv[1:])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    wall, cpu = time.perf_counter(), time.process_time()
    result = headway.simulate(
        batching="prefill_first",
        routing="two_choices",
        instances=instances,
        rate_rps=RATE_RPS * instances,
        requests=requests,
    )
    told = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    print(json.dumps(told | {"completed": result.summary["completed"]}))


if __name__ == "__main__":
    main()
