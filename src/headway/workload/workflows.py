"""Compound requests: stages of calls that go out together; a stage begins when all of the one before have ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from headway.core import NO_SLO, Request, Slo
from headway.core.fleet import FINISHED_OK
from headway.workload.arrivals import Arrivals
from headway.workload.lengths import Distribution, Uniform
from headway.workload.offered import DEFAULT_MAX_TOKENS, Offered, cap_for, check_cap
from headway.workload.sessions import default_shapes
from headway.workload.shapes import Shapes

STAGES, CALLS = Uniform(2, 4), Uniform(1, 4)
"""Stages of a workflow and calls of a stage: small agents, as wide as they are deep."""


@dataclass(slots=True)
class _Workflow:
    """What is left of one."""

    arrival_ns: int
    stages: list[list[tuple[int, int]]]  # (prompt, output) of each call
    stage: int = 0  # the one in flight
    open: int = 0  # of its calls


class Workflows:
    """Open-loop workflows, closed-loop stages; each call has its workflow's number as `Request.workflow`.

    All of a workflow is drawn when it starts. With `stage_ns`, stage k is due (k + 1) · `stage_ns` after the workflow
    began: what an early stage saved, a later one may spend. A workflow ends when a call does not finish. `workflows`
    limits how many start; only those in progress are held.
    """

    def __init__(
        self,
        arrivals: Arrivals,
        *,
        stages: Distribution = STAGES,
        calls: Distribution = CALLS,
        shapes: Shapes | None = None,
        workflows: int | None = None,
        stage_ns: int | None = None,
        name: str = "workflow",
        seed: int = 0,
        max_tokens: int = DEFAULT_MAX_TOKENS,
    ) -> None:
        check_cap(max_tokens)
        self._arrivals, self._stages, self._calls = arrivals, stages, calls
        self._shapes = default_shapes() if shapes is None else shapes
        self._workflows, self._stage_ns, self._name = workflows, stage_ns, name
        self._seed, self._max_tokens = seed, max_tokens
        self._live: dict[int, _Workflow] = {}
        self._next_id = 0

    def offers(self) -> Iterator[Offered]:
        """Offer the calls of first stages in order of arrival; starts the workload anew."""
        self._live = {}
        self._next_id = 0
        times, counts, widths, lengths = np.random.default_rng(self._seed).spawn(4)
        drawn = zip(self._arrivals.times(times), self._stages.draws(counts), strict=False)
        calls, pairs = self._calls.draws(widths), self._shapes.pairs(lengths)
        for number, (arrival_ns, stages) in enumerate(islice(drawn, self._workflows)):
            shapes = [list(islice(pairs, width)) for width in islice(calls, stages)]
            self._live[number] = _Workflow(arrival_ns, shapes)
            yield from self._offer(number, arrival_ns)

    def on_end(self, request: Request, outcome: str, now_ns: int) -> Sequence[Offered]:
        """Offer the next stage after the last call of one."""
        number = request.workflow
        flow = None if number is None else self._live.get(number)
        if number is None or flow is None:
            return ()
        if outcome != FINISHED_OK:
            del self._live[number]
            return ()
        flow.open -= 1
        if flow.open:
            return ()
        flow.stage += 1
        if flow.stage == len(flow.stages):
            del self._live[number]
            return ()
        return self._offer(number, now_ns)

    def _offer(self, number: int, now_ns: int) -> list[Offered]:
        flow = self._live[number]
        slo = NO_SLO
        if self._stage_ns is not None:
            due_ns = flow.arrival_ns + (flow.stage + 1) * self._stage_ns
            slo = Slo(self._name, e2e_ns=max(1, due_ns - now_ns))
        offers = []
        for prompt, output in flow.stages[flow.stage]:
            cap = cap_for(output, self._max_tokens)
            request = Request(self._next_id, now_ns, prompt, cap, slo, workflow=number)
            offers.append(Offered(request, output))
            self._next_id += 1
        flow.open = len(offers)
        return offers
