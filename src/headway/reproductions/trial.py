"""Try one claim: run every arm for every seed, and judge."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence as Seq
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any

from headway.api.parallel import Workers
from headway.errors import UnknownNameError
from headway.reproductions.claim import Claim, claim_of, claims
from headway.reproductions.experiment import Experiment
from headway.reproductions.verdict import Verdict, gains, judge, mean_gain

SEEDS = 5
_FOLDER = Path(__file__).with_name("experiments")
ARMS = ("ours", "baseline", "strong", "null_ours", "null_baseline")


@dataclass(frozen=True)
class Trial:
    """A claim that was tried. `values` is arm -> the metric by seed."""

    name: str
    claim: Claim
    experiment: Experiment
    verdict: Verdict
    strong_gain: float
    values: Mapping[str, Seq[float]]
    seeds: int
    seconds: float

    def row(self) -> dict[str, Any]:
        """What `--json` writes of it."""
        low, high = self.verdict.interval
        return {
            "name": self.name,
            "rule": "shared",
            "verdict": self.verdict.verdict,
            "paper": self.claim.paper_gain,
            "ours": _plain(self.verdict.gain),
            "interval": [_plain(low), _plain(high)],
            "null": _plain(self.verdict.null_gain),
            "baseline": self.claim.baseline,
            "strong_baseline": _plain(self.strong_gain),
            "seeds": self.seeds,
            "seconds": round(self.seconds, 1),
            "metric": self.claim.metric,
            "reasons": list(self.verdict.reasons),
            "setup": self.experiment.setup,
            "null_setup": self.experiment.null_setup,
            "differs": list(self.experiment.differs),
            "values": {arm: [_plain(v) for v in values] for arm, values in self.values.items()},
        }


def experiment_names() -> list[str]:
    """Claims that can be tried, in the order they are registered."""
    known = {file.stem for file in _FOLDER.glob("*.py")}
    return [name for name in claims() if name in known]


def experiment_of(name: str) -> Experiment:
    """The experiment of a claim.

    Raises:
        UnknownNameError: there is none; lists the nearest.
    """
    if name not in experiment_names():
        raise UnknownNameError.among("reproduction", name, experiment_names())
    module = importlib.import_module(f"headway.reproductions.experiments.{name}")
    experiment: Experiment = module.EXPERIMENT
    return experiment


def try_claim(
    name: str,
    *,
    seeds: int = SEEDS,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Trial:
    """Run every arm for seeds 0, 1, … and judge; `progress(done, all)` hears of every run.

    Raises:
        UnknownNameError: no such reproduction.
        OptionError: fewer seeds than the rule needs, or fewer than one job.
    """
    claim, experiment = claim_of(name), experiment_of(name)
    arms = {arm: getattr(experiment, arm) for arm in ARMS} | dict(experiment.ablations)
    runs = [(name, arm, seed) for arm in arms for seed in range(seeds)]
    began = perf_counter()
    values: dict[str, list[float]] = {arm: [0.0] * seeds for arm in arms}
    with Workers(jobs) as workers:
        for done, (index, value) in enumerate(workers.each(run_arm, runs), 1):
            _, arm, seed = runs[index]
            values[arm][seed] = value
            if progress:
                progress(done, len(runs))
    higher = experiment.higher_is_better
    ours = gains(values["ours"], values["baseline"], higher_is_better=higher)
    null = gains(values["null_ours"], values["null_baseline"], higher_is_better=higher)
    strong = mean_gain(gains(values["ours"], values["strong"], higher_is_better=higher))
    verdict = judge(ours, null, claim.paper_gain)
    seconds = perf_counter() - began
    return Trial(name, claim, experiment, verdict, strong, values, seeds, seconds)


def run_arm(run: tuple[str, str, int]) -> float:
    """One arm with one seed, by name: it may run in another process."""
    name, arm, seed = run
    experiment = experiment_of(name)
    return float((getattr(experiment, arm) if arm in ARMS else experiment.ablations[arm])(seed))


def _plain(number: float) -> float | None:
    """JSON knows no infinity."""
    return round(number, 4) if isfinite(number) else None
