"""The vocabulary and the seams. Imports the standard library only; all a policy file needs is here."""

from headway.core.deployment import Deployment, Pool, Variant
from headway.core.fleet import Handoff, Report
from headway.core.plan import Step, StepPlan, StepResult, Transfer, Work, WorkDone
from headway.core.request import NO_SLO, NS_PER_MS, NS_PER_S, PrefixExtent, Request, Slo, Stage
from headway.core.sequence import Sequence
from headway.core.views import FleetView, InstanceView

__all__ = [
    "NO_SLO",
    "NS_PER_MS",
    "NS_PER_S",
    "Deployment",
    "FleetView",
    "Handoff",
    "InstanceView",
    "Pool",
    "PrefixExtent",
    "Report",
    "Request",
    "Sequence",
    "Slo",
    "Stage",
    "Step",
    "StepPlan",
    "StepResult",
    "Transfer",
    "Variant",
    "Work",
    "WorkDone",
]
