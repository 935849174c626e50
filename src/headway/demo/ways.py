"""Ways to serve: the plain one, those that know of SLOs, and the simulator's choice among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from headway.api import Result, simulate
from headway.core.protocols import TimingModel, Workload
from headway.demo.mixed_load import PACE_STEPS, Promises, mixed

TUNED_ON = (501, 502, 503)  # seeds of arrivals that are never measured
FIRST_RATE_RPS, MOST_RATE_RPS = 0.25, 1024.0
_HALVINGS = 4  # the rate is found to about 4 %


@dataclass(frozen=True)
class Way:
    """A batching and an ordering policy, and the options of the former."""

    batching: str
    ordering: str
    options: Mapping[str, str] = field(default_factory=dict)  # option -> value

    @property
    def name(self) -> str:
        """Both policies."""
        return f"{self.batching} + {self.ordering}"

    @property
    def settings(self) -> dict[str, str]:
        """As `simulate` and a host take them."""
        return {f"batching.{key}": value for key, value in self.options.items()}

    @property
    def text(self) -> str:
        """With options."""
        options = ", ".join(f"{key} {value}" for key, value in self.options.items())
        return f"{self.name} ({options})" if options else self.name

    @property
    def flags(self) -> list[str]:
        """As `headway serve` takes them."""
        settings = [f"--set={key}={value}" for key, value in self.settings.items()]
        return [f"--batching={self.batching}", f"--ordering={self.ordering}", *settings]


PLAIN = Way("prefill_first", "fcfs")
EDF, FEWEST_LATE = "earliest_deadline", "fewest_late"
BUDGETS = ("32", "64", "96", "128", "256", "512")


def candidates(step_ms: float) -> dict[str, list[Way]]:
    """Ways that know of SLOs, for a machine with decode steps of `step_ms`; one of each name is to be chosen."""
    pace_ms = PACE_STEPS * step_ms
    paces = [f"{share * pace_ms:.1f}" for share in (0.3, 0.45, 0.6, 0.75)]
    jitserve = {"interval": "10", "expected_output": "24"}
    return {
        "sarathi": [Way("sarathi", EDF, {"token_budget": budget}) for budget in BUDGETS],
        "fewest_late": [
            Way("sarathi", FEWEST_LATE, {"token_budget": budget}) for budget in BUDGETS
        ],
        "flowprefill": [Way("flowprefill", EDF, {"itl_target_ms": pace}) for pace in paces],
        "jitserve": [Way("jitserve", EDF, {"token_budget": str(n)} | jitserve) for n in (128, 256)],
    }


def forecast(way: Way, work: Workload, profile: Path, timing: TimingModel | None = None) -> Result:
    """Simulate on the machine of a profile; `timing` replaces its step times, not its memory."""
    return simulate(
        batching=way.batching,
        ordering=way.ordering,
        options=way.settings,
        profile=str(profile),
        timing=timing,
        workload=work,
    )


@dataclass(frozen=True)
class Overload:
    """An overload to be found and served: promises, how long it lasts, and the machine."""

    promises: Promises
    seconds: float
    profile: Path

    def work(self, rate_rps: float, seed: int) -> Workload:
        """Arrivals of one draw."""
        return mixed(rate_rps, self.seconds, self.promises, seed)

    def kept(self, way: Way, rate_rps: float, seed: int) -> tuple[float, float]:
        """SLO attainment and goodput, requests/s, of one draw."""
        summary = forecast(way, self.work(rate_rps, seed), self.profile).summary
        return summary["slo_attainment"] or 0.0, summary["request_goodput"]

    def rate(
        self, way: Way, most_kept: float, seeds: Iterable[int], tell: Callable[[float], None]
    ) -> float:
        """About the lowest rate, requests/s, at which `way` keeps no more than `most_kept` in any draw of arrivals."""
        drawn = tuple(seeds)

        def over(rate_rps: float) -> bool:
            tell(rate_rps)
            return all(self.kept(way, rate_rps, seed)[0] <= most_kept for seed in drawn)

        high = FIRST_RATE_RPS
        while high < MOST_RATE_RPS and not over(high):
            high *= 2
        low = high / 2
        for _ in range(_HALVINGS):
            middle = (low * high) ** 0.5
            low, high = (low, middle) if over(middle) else (middle, high)
        return high

    def best(self, ways: Iterable[Way], rate_rps: float) -> tuple[float, Way]:
        """Goodput, requests/s, and the way with the most of it, on arrivals that are not measured."""
        found = [
            (mean(self.kept(way, rate_rps, seed)[1] for seed in TUNED_ON), way) for way in ways
        ]
        return max(found, key=lambda one: one[0])
