"""A long prompt does not make an urgent one wait, and is still computed only once."""

from __future__ import annotations

from headway.api import simulate
from headway.core import Request, Slo
from headway.testing import Setup, run_sim, small_workload
from headway.workload import Listed, Offered

MS = 1_000_000
LONG, SHORT = Slo("file", ttft_ns=6000 * MS), Slo("text", ttft_ns=300 * MS)


def _ttft_ms(batching: str, *, later_ms: int = 100, slo: Slo = SHORT) -> dict[int, float]:
    offers = [
        Offered(Request(0, 0, 12_000, 4, slo=LONG), 4),
        Offered(Request(1, later_ms * MS, 200, 4, slo=slo), 4),
    ]
    columns = simulate(batching=batching, gpu="a100", workload=Listed(offers)).requests()
    ttft = (columns["first_token_ns"] - columns["arrival_ns"]) / MS
    return dict(zip(columns["id"].tolist(), ttft.tolist(), strict=True))


def test_an_urgent_short_prompt_waits_for_a_layer_not_for_a_prompt() -> None:
    flow, whole = _ttft_ms("flowprefill"), _ttft_ms("prefill_first")
    assert flow[1] < 100 < whole[1]
    assert flow[0] < whole[0] + 100  # the long one pays for the short one, and for nothing else


def test_nobody_is_interrupted_for_a_later_deadline() -> None:
    late = Slo("later", ttft_ns=60_000 * MS)
    assert _ttft_ms("flowprefill", slo=late)[0] < _ttft_ms("flowprefill")[0]


def test_conserves_under_memory_pressure() -> None:
    """Suspended prompts hold blocks: everybody still ends."""
    run = run_sim(small_workload(4, 40, 30.0), Setup("flowprefill", blocks=140))
    run.conserved()
