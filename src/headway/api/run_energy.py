"""Energy of a run, from what its requests computed and how many steps there were.

Recomputation after preemptions is not counted; weights are read once a step, at the mean step size.
"""

from __future__ import annotations

from headway.api.assembly import Assembled
from headway.metrics.recorder import COLUMNS
from headway.timing import Energy, Totals, energy_j, request_totals, step_weight_bytes


def run_energy(assembled: Assembled, wall_ns: int) -> Energy | None:
    """Joules of all instances; None when step times did not come from the sheets, or nothing ran."""
    if not assembled.modelled or wall_ns <= 0:
        return None
    model, scenario = assembled.model, assembled.scenario
    at = {name: index for index, name in enumerate(COLUMNS)}
    totals = Totals(0, 0)
    computed = 0
    for row in assembled.recorder.rows().tolist():
        if row[at["started"]] < 0:
            continue
        prompt, cached, output = row[at["prompt"]], row[at["cached"]], row[at["output"]]
        totals = totals.plus(request_totals(model, prompt, cached, output, tp=scenario.tp))
        computed += prompt - cached + output
    steps = assembled.recorder.steps
    weights = steps * step_weight_bytes(model, max(1, round(computed / steps))) if steps else 0
    return energy_j(
        model,
        assembled.device,
        scenario.tp,
        wall_ns=wall_ns * assembled.devices // scenario.tp,
        flops=totals.flops,
        moved_bytes=totals.kv_bytes + weights,
    )
