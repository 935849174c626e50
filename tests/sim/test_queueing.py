"""The simulator against queueing theory: one server, one request a step.

Its waits equal Lindley's recursion to the nanosecond for the same draws; the recursion, over millions of draws, gives
the means of theory. Together: the simulator waits as M/M/1 and M/D/1 do, without simulating millions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

from headway.core import Request, Step, Transfer
from headway.policies.batching.sarathi import Sarathi
from headway.testing import Setup, SmallWorkload, run_sim
from headway.workload import Offered

SERVICE_NS = 10_000_000
Draw = Callable[[np.random.Generator, int], np.ndarray]


def exponential(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.maximum(1, rng.exponential(SERVICE_NS, count).astype(np.int64))


def constant(_: np.random.Generator, count: int) -> np.ndarray:
    return np.full(count, SERVICE_NS)


def lindley(gaps_ns: np.ndarray, service_ns: np.ndarray) -> np.ndarray:
    """Waiting times: W(n+1) = max(0, W(n) + S(n) - A(n+1)), unrolled; gaps_ns[0] is before the first."""
    steps = np.concatenate(([0], np.cumsum(service_ns[:-1] - gaps_ns[1:])))
    waits: np.ndarray = steps - np.minimum.accumulate(steps)
    return waits


@dataclass(frozen=True)
class Drawn:
    """Each request takes what was drawn for it."""

    service_ns: list[int]
    layers: int = 1

    def durations_ns(self, step: Step, repeats: int) -> list[int]:
        assert len(step.work) == repeats == 1
        return [self.service_ns[step.work[0].sequence.id]]

    def transfer_ns(self, transfer: Transfer) -> int:
        raise NotImplementedError

    def chunk_time_ns(self, tokens: int, context_tokens: int) -> int:
        raise NotImplementedError


@pytest.mark.parametrize("load", [0.5, 0.8])
@pytest.mark.parametrize("service", [exponential, constant])
def test_waits_equal_lindleys_recursion(service: Draw, load: float) -> None:
    rng = np.random.default_rng(3)
    count = 2000
    gaps_ns = rng.exponential(SERVICE_NS / load, count).astype(np.int64)
    arrivals, services = np.cumsum(gaps_ns).tolist(), service(rng, count)
    offers = tuple(Offered(Request(n, at, 1, 1), 1) for n, at in enumerate(arrivals))
    setup = Setup(partial(Sarathi, max_num_seqs=1), timing=Drawn(services.tolist()), audited=False)
    run = run_sim(SmallWorkload(offers), setup)
    run.conserved()
    waits = [run.log.times_ns[n][0] - arrivals[n] - int(services[n]) for n in range(count)]
    assert waits == lindley(gaps_ns, services).tolist()


@pytest.mark.parametrize("load", [0.5, 0.8])
@pytest.mark.parametrize(("service", "factor"), [(exponential, 1.0), (constant, 0.5)])
def test_lindleys_recursion_waits_as_theory_says(service: Draw, factor: float, load: float) -> None:
    """Pollaczek and Khinchine: S rho / (1 - rho) for exponential service, half of it for constant."""
    rng = np.random.default_rng(1)
    count = 4_000_000  # a standard error below 0.6 % at load 0.8
    gaps_ns = rng.exponential(SERVICE_NS / load, count).astype(np.int64)
    mean_ns = lindley(gaps_ns, service(rng, count)).mean()
    assert mean_ns == pytest.approx(factor * SERVICE_NS * load / (1 - load), rel=0.02)
