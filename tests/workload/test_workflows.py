"""A stage begins when the one before has ended, and all calls of a workflow know each other."""

from __future__ import annotations

from headway.core.fleet import ABORTED, FINISHED_OK
from headway.workload import Constant, Fixed, Workflows

SECOND = 1_000_000_000


def _two_by_two(stage_ns: int | None = None) -> Workflows:
    return Workflows(Constant(1.0), stages=Fixed(2), calls=Fixed(2), workflows=3, stage_ns=stage_ns)


def test_stages_follow_each_other() -> None:
    flows = _two_by_two(stage_ns=5 * SECOND)
    first = list(flows.offers())
    assert [offer.request.workflow for offer in first] == [0, 0, 1, 1, 2, 2]
    assert first == list(_two_by_two(stage_ns=5 * SECOND).offers())
    one, other = first[0].request, first[1].request
    began = one.arrival_ns
    assert not flows.on_end(one, FINISHED_OK, began + SECOND)
    second = flows.on_end(other, FINISHED_OK, began + 2 * SECOND)
    assert [offer.request.workflow for offer in second] == [0, 0]
    assert {offer.request.arrival_ns for offer in second} == {began + 2 * SECOND}
    assert second[0].request.slo.e2e_ns == 8 * SECOND  # what is left of two stages
    for offer in second:
        assert not flows.on_end(offer.request, FINISHED_OK, began + 3 * SECOND)


def test_a_workflow_ends_with_a_call_that_does_not_finish() -> None:
    flows = _two_by_two()
    one, other = (offer.request for offer in list(flows.offers())[:2])
    assert one.slo.e2e_ns is None
    assert not flows.on_end(one, ABORTED, 0)
    assert not flows.on_end(other, FINISHED_OK, 0)
