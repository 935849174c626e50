"""Who asks for what, when: traces, arrival processes, lengths, sessions, tenants.

A workload has `offers()`, a stream in order of arrival that starts anew with each call, and `on_end`,
which answers the end of a request with the offers it causes. Equal seeds give equal offers.
"""

from headway.workload.arrivals import Arrivals, AtOnce, Constant, Gamma, Poisson
from headway.workload.closed_loop import ClosedLoop
from headway.workload.describe import Description, describe
from headway.workload.jsonl import write_trace
from headway.workload.labels import SloClasses, Tenants
from headway.workload.lengths import Distribution, Empirical, Fixed, LogNormal, Uniform, Zipf
from headway.workload.listed import Listed
from headway.workload.merged import Merged
from headway.workload.modulated import CONVERSATION_DAY, Bursts, Diurnal
from headway.workload.offered import DEFAULT_MAX_TOKENS, Offered
from headway.workload.sessions import Sessions, Think
from headway.workload.shapes import Independent, OutputByPrompt, Seen, Shapes, azure_conversation
from headway.workload.shared_prefixes import SharedPrefixes, mooncake_like
from headway.workload.synthetic import Synthetic, conversation_like
from headway.workload.trace import Trace, open_trace
from headway.workload.workflows import Workflows

__all__ = [
    "CONVERSATION_DAY",
    "DEFAULT_MAX_TOKENS",
    "Arrivals",
    "AtOnce",
    "Bursts",
    "ClosedLoop",
    "Constant",
    "Description",
    "Distribution",
    "Diurnal",
    "Empirical",
    "Fixed",
    "Gamma",
    "Independent",
    "Listed",
    "LogNormal",
    "Merged",
    "Offered",
    "OutputByPrompt",
    "Poisson",
    "Seen",
    "Sessions",
    "Shapes",
    "SharedPrefixes",
    "SloClasses",
    "Synthetic",
    "Tenants",
    "Think",
    "Trace",
    "Uniform",
    "Workflows",
    "Zipf",
    "azure_conversation",
    "conversation_like",
    "describe",
    "mooncake_like",
    "open_trace",
    "write_trace",
]
