"""The vocabulary and the seams. Imports the standard library only; all a policy file needs is here."""

from headway.core.deployment import Deployment, Pool, Variant
from headway.core.fleet import Action, Enlist, Handoff, Migrate, Report, Retire, SetRole
from headway.core.plan import Step, StepPlan, StepResult, Transfer, Work, WorkDone
from headway.core.request import NO_SLO, NS_PER_MS, NS_PER_S, PrefixExtent, Request, Slo, Stage
from headway.core.sampling import GREEDY, Sampling, TokenLogprob
from headway.core.sequence import Sequence
from headway.core.views import FleetView, InstanceView

__all__ = [
    "GREEDY",
    "NO_SLO",
    "NS_PER_MS",
    "NS_PER_S",
    "Action",
    "Deployment",
    "Enlist",
    "FleetView",
    "Handoff",
    "InstanceView",
    "Migrate",
    "Pool",
    "PrefixExtent",
    "Report",
    "Request",
    "Retire",
    "Sampling",
    "Sequence",
    "SetRole",
    "Slo",
    "Stage",
    "Step",
    "StepPlan",
    "StepResult",
    "TokenLogprob",
    "Transfer",
    "Variant",
    "Work",
    "WorkDone",
]
