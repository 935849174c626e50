"""Small runs, driven step by step or by leaps, without a runtime."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from headway.core import (
    NO_SLO,
    NS_PER_MS,
    Request,
    Sequence,
    Slo,
    Stage,
    Step,
    StepResult,
    WorkDone,
)
from headway.metrics import Recorder


@dataclass
class Run:
    """Offers requests, lands steps and applies them as the runtime does: after the sink has heard."""

    recorder: Recorder = field(default_factory=Recorder)
    sequences: dict[int, Sequence] = field(default_factory=dict)
    gaps: list[int] = field(default_factory=list)  # every gap, the slow way
    steps: int = 0
    names_decodes: bool = False  # does a step say which of its works are plain decodes?

    def offer(
        self,
        arrival_ms: float = 0,
        *,
        slo: Slo = NO_SLO,
        tenant: str = "",
        prompt: int = 10,
        stages: tuple[Stage, ...] = (),
    ) -> Sequence:
        arrival_ns = round(arrival_ms * NS_PER_MS)
        request = Request(
            len(self.sequences), arrival_ns, prompt, 100, slo=slo, tenant=tenant, stages=stages
        )
        self.recorder.on_offer(request)
        sequence = self.sequences[request.id] = Sequence(request)
        return sequence

    def land(self, ends_ns: Seq[int], emitted: dict[Sequence, int], *, leap: bool = False) -> None:
        """One step with one end, or a leap in which each emitting sequence emits one token at each end."""
        self.steps += 1
        decodes: list[Sequence] = []
        if self.names_decodes:
            decodes = [s for s, n in emitted.items() if n == len(ends_ns) and s.output_tokens]
            emitted = {s: emitted[s] for s in (*decodes, *emitted)}  # decodes come first
        works = [sequence.decode for sequence in emitted]
        done = [WorkDone(4, count, count) for count in emitted.values()]
        repeats = len(ends_ns) if leap else 1
        step = Step(self.steps, "main", works, repeats=repeats, decodes=decodes)
        self.recorder.on_tokens(step, StepResult("done", done, list(ends_ns)))
        for sequence, count in emitted.items():
            if sequence.started_ns < 0:
                sequence.started_ns = sequence.request.arrival_ns
            for token in range(count):
                self._apply(sequence, ends_ns[token if leap else 0])

    def _apply(self, sequence: Sequence, end_ns: int) -> None:
        if sequence.last_token_ns >= 0:
            self.gaps.append(end_ns - sequence.last_token_ns)
        else:
            sequence.first_token_ns = end_ns
        sequence.last_token_ns = end_ns
        sequence.output_tokens += 1

    def end(
        self, sequence: Sequence, outcome: str = "finished", now_ms: float | None = None
    ) -> None:
        now_ns = sequence.last_token_ns if now_ms is None else round(now_ms * NS_PER_MS)
        self.recorder.on_end(sequence.request, sequence, outcome, now_ns)

    def reject(self, sequence: Sequence, outcome: str = "rejected: full") -> None:
        request = sequence.request
        self.recorder.on_end(request, None, outcome, request.arrival_ns)

    def answer(self, sequence: Sequence, times_ms: Seq[float], outcome: str = "finished") -> None:
        """Land one token at each time, then end."""
        for time_ms in times_ms:
            self.land([round(time_ms * NS_PER_MS)], {sequence: 1})
        self.end(sequence, outcome)
