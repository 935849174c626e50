"""FlowPrefill: whole prompts, interrupted at a layer boundary when somebody more urgent comes.

A long prompt is never cut into chunks, and still does not make a short one wait: on an arrival the step in flight stops
after its present layer, keeps what it has, and goes on later. Decisions are made on arrivals and completions only.

Who goes first (slack-aware EDF): those who can still keep their TTFT by earliest deadline, then those who cannot by
latest deadline, then those who were promised nothing by arrival. Short prompts ride along while the first one's
deadline leaves room.

Source: FlowPrefill (operator-level preemption, event-driven scheduling), with its published code. Differs: made for
prefill instances, where nobody decodes; on a mixed one all decodes get a step of their own every `itl_target_ms`, for
which a prefill is interrupted too. Boundaries are layers, not operators. Where no times are predicted, slack is time
to the deadline. A prompt above `step_tokens` is cut.
Cost: O((waiting + running) log) per arrival and completion.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from typing import ClassVar

from headway.core import NS_PER_MS, InstanceView, Sequence, StepPlan, Work
from headway.errors import MissingCapabilityError

GRAIN = 64  # tokens: predictions are kept by length rounded up to it


@dataclass
class Flowprefill:
    """Options: prompt tokens that may ride together, TTFT share kept in reserve, decode pace, suspended prompts."""

    needs: ClassVar[frozenset[str]] = frozenset({"layers"})

    batch_tokens: int = 2048
    reserve: float = 0.1
    itl_target_ms: float = 100.0
    max_num_seqs: int = 256
    most_suspended: int = 16
    step_tokens: int = 16_384
    _times: dict[int, int] = field(default_factory=dict, init=False, repr=False)

    def on_event(self, view: InstanceView) -> dict[str, str]:
        """Interrupt when the step in flight does not hold the most urgent work."""
        flying = {work.sequence for work in view.in_flight("main")}
        if not any(sequence in flying for sequence in view.prefilling):
            return {}  # decodes: too short to interrupt
        if self._decodes_due(view):
            return {"main": "layer"}
        first = next(iter(self._ranked(view)), None)
        return {} if first is None or first in flying else {"main": "layer"}

    def plan(self, view: InstanceView) -> StepPlan:
        """The most urgent prompt, with short ones beside it; decodes when it is their turn."""
        if not self._decodes_due(view):
            prompts = self._prompts(view)
            if prompts:
                wake = self._next_decode_ns(view)
                return StepPlan({"main": prompts}, wake_at_ns=wake)
        decodes = view.take_decodes()
        if decodes:
            return StepPlan({"main": decodes}, steady=not (view.prefilling or view.waiting))
        return StepPlan({"main": self._prompts(view)})

    def _prompts(self, view: InstanceView) -> list[Work]:
        ranked = self._ranked(view)
        suspended = sum(sequence.partial is not None for sequence in view.prefilling)
        for first in ranked:
            starts = first.state == "waiting"
            if starts and (
                suspended >= self.most_suspended or len(view.running) >= self.max_num_seqs
            ):
                continue
            work = view.take(first, min(first.remaining_tokens, self.step_tokens))
            if work is not None:
                return [work, *(self._riders(view, first, ranked) if starts else ())]
        return []

    def _riders(
        self, view: InstanceView, first: Sequence, ranked: Iterable[Sequence]
    ) -> Iterable[Work]:
        """Short prompts that `first` can afford."""
        total = first.remaining_tokens
        due_ns = first.request.due_ns(0)
        spare_ns: float = inf
        if due_ns is not None:
            reserve_ns = self.reserve * (due_ns - first.request.arrival_ns)
            spare_ns = due_ns - view.now_ns - reserve_ns
        room = self.max_num_seqs - len(view.running) - 1
        for other in ranked:
            tokens = other.remaining_tokens
            if other is first or other.state != "waiting" or total + tokens > self.batch_tokens:
                continue
            if room <= 0 or self._time_ns(view, total + tokens) > spare_ns:
                return
            work = view.take(other, tokens)
            if work is not None:
                total += tokens
                room -= 1
                yield work

    def _ranked(self, view: InstanceView) -> list[Sequence]:
        return sorted(
            [*view.prefilling, *view.waiting], key=lambda sequence: self._rank(view, sequence)
        )

    def _rank(self, view: InstanceView, sequence: Sequence) -> tuple[float, ...]:
        request = sequence.request
        due_ns = request.due_ns(sequence.output_tokens)
        if due_ns is None:
            return 2, request.arrival_ns, request.id
        left_ns = self._time_ns(view, sequence.remaining_tokens)
        if sequence.partial:
            left_ns = left_ns * (view.layers - sequence.partial[1]) // view.layers
        feasible = due_ns - view.now_ns - left_ns >= 0
        return (0, due_ns, request.id) if feasible else (1, -due_ns, request.id)

    def _time_ns(self, view: InstanceView, tokens: int) -> int:
        """Predicted time of so many prompt tokens alone; 0 where nobody predicts."""
        rounded = -(-tokens // GRAIN) * GRAIN
        known = self._times.get(rounded)
        if known is None:
            try:
                known = view.chunk_time_ns(rounded)
            except MissingCapabilityError:
                known = 0
            self._times[rounded] = known
        return known

    def _next_decode_ns(self, view: InstanceView) -> int | None:
        """When the decode that waits longest has waited `itl_target_ms`; None when nobody decodes."""
        if not view.decoding:
            return None
        oldest_ns = min(sequence.last_token_ns for sequence in view.decoding)
        return oldest_ns + round(self.itl_target_ms * NS_PER_MS)

    def _decodes_due(self, view: InstanceView) -> bool:
        due_ns = self._next_decode_ns(view)
        return due_ns is not None and due_ns <= view.now_ns
