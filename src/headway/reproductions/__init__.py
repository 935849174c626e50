"""Published claims, tried by one rule: each system against its paper's baseline, a strong simple one, and nothing."""

from headway.reproductions.claim import Claim, claims
from headway.reproductions.experiment import Experiment
from headway.reproductions.trial import Trial, experiment_names, try_claim
from headway.reproductions.verdict import NOT_REPRODUCED, PARTLY, REPRODUCED, Verdict, judge

__all__ = [
    "NOT_REPRODUCED",
    "PARTLY",
    "REPRODUCED",
    "Claim",
    "Experiment",
    "Trial",
    "Verdict",
    "claims",
    "experiment_names",
    "judge",
    "try_claim",
]
