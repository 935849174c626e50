"""What comes out of a step when nothing is computed: true output lengths, and drafts accepted by a hash."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from headway.core.plan import Step, Work, WorkDone
from headway.core.sequence import Sequence
from headway.sim.acceptance import Acceptance

_GONE = 1 << 40  # length of a request that has ended: what is still in flight for it never stops


@dataclass(slots=True)
class Lengths:
    """The true output length of every request in flight, each at most its max_tokens.

    `acceptance=None`: any number of drafts is as likely to be accepted as another.
    """

    output_tokens: dict[int, int] = field(default_factory=dict)
    layers: int = 32
    leaps: bool = True
    acceptance: Acceptance | None = None
    one_token: tuple[WorkDone, WorkDone] | None = field(default=None, init=False, repr=False)

    def lefts(self, sequences: Seq[Sequence]) -> list[int]:
        """Output tokens of each sequence until its model stops."""
        lengths = self.output_tokens
        try:
            return [lengths[s.id] - s.output_tokens for s in sequences]
        except KeyError:  # one of them has ended
            return [lengths.get(s.id, _GONE) - s.output_tokens for s in sequences]

    def outcome(self, step: Step, layers: int) -> list[WorkDone]:
        """Of one repeat that stopped after `layers` layers."""
        head, works = step.decodes, step.work
        if not head or layers < self.layers:
            return [self._one(work, layers) for work in works]
        if self.one_token is None:
            self.one_token = WorkDone(layers, 1, 1), WorkDone(layers, 1, 1, ended=True)
        more, last = self.one_token
        done = [more if left > 1 else last for left in self.lefts(head)]
        done.extend(self._one(work, layers) for work in works[len(head) :])
        return done

    def release(self, request_id: int) -> None:
        """Keep it: whoever wrote the length down takes it out, once no instance has the request."""

    def _one(self, work: Work, stop: int) -> WorkDone:
        sequence = work[0]
        layers = stop if work[2] is None else max(work[2][0], min(stop, work[2][1]))
        if layers < self.layers:
            return WorkDone(layers, 0, 0)
        if sequence.denoises:
            return self._denoised(sequence)
        drafts = work[3]
        certain = work[1] - drafts
        if sequence.computed_tokens + certain < sequence.total_tokens:
            return WorkDone(
                layers, certain, 0
            )  # a chunk that does not reach the end samples nothing
        left = self.output_tokens.get(sequence.request.id, _GONE) - sequence.output_tokens
        emitted = min(1 + self._accepted(sequence, drafts), left) if drafts else 1
        return WorkDone(layers, certain + emitted - 1, emitted, emitted >= left)

    def _denoised(self, sequence: Sequence) -> WorkDone:
        """Of one denoising step: a span's tokens come out with its last; KV is new only where none was."""
        stage, layers = sequence.request.stage, self.layers
        fresh = sequence.total_tokens - sequence.computed_tokens
        if (sequence.denoised + 1) % stage.denoise_steps:
            return WorkDone(layers, fresh, 0)
        left = self.output_tokens.get(sequence.id, _GONE) - sequence.output_tokens
        emitted = min(stage.denoise_tokens, left)
        return WorkDone(layers, fresh, emitted, emitted >= left)

    def _accepted(self, sequence: Sequence, drafts: int) -> int:
        if self.acceptance is None:
            return accepted(sequence, drafts)
        return self.acceptance.accepted(sequence.id, sequence.output_tokens, drafts)


def accepted(sequence: Sequence, draft_tokens: int) -> int:
    """Accepted drafts, a function of (request, position), never of a stream: it survives preemption."""
    return (sequence.request.id * 7919 + sequence.output_tokens * 104_729) % (draft_tokens + 1)
