"""What the engine knows of each request: its tokens and its unfinished chunk.

The books are opened on the loop's thread (`Books`); a request's entry is then written by one thread at a
time: the worker of the lane it is in, or the transfer thread. An entry outlives `release` in the steps that
hold it, so that a late step of an aborted request computes into the void instead of failing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from headway.core.plan import Step, Work
from headway.core.sequence import Sequence
from headway.engine.check_request import why_not
from headway.engine.draft_kv import Trail
from headway.engine.drafts import PromptLookup
from headway.engine.sampler import Chooser


class Partial(NamedTuple):
    """A chunk that stopped between two layers."""

    start: int
    ids: list[int]  # certain tokens, then drafts
    certain: int
    layer: int  # layers done
    hidden: Tensor  # (tokens, E)


class Entry:
    """One request. `tokens` is prompt and output; the worker appends what it samples at once, because the
    next step of the lane may have been planned before this one's result has landed.
    """

    __slots__ = (
        "_chooser",
        "_sampling",
        "broken",
        "ended",
        "ends",
        "in_flight",
        "lookup",
        "max_tokens",
        "partial",
        "prompt_tokens",
        "reached",
        "tokens",
        "trail",
    )

    def __init__(self, sequence: Sequence, stops: frozenset[int]) -> None:
        request, sampling = sequence.request, sequence.request.sampling
        self.broken = ""  # why it cannot be computed
        if request.prompt_ids is None or len(request.prompt_ids) != request.prompt_tokens:
            self.broken = (
                f"request {request.id} has no prompt_ids for its {request.prompt_tokens} tokens"
            )
        self.tokens = [*(request.prompt_ids or ()), *(sequence.output_ids or ())]
        self.prompt_tokens, self.max_tokens = request.prompt_tokens, request.max_tokens
        self.reached = 0  # tokens with KV after the last step that was computed
        self.in_flight = 0  # steps whose result has not landed; the loop's thread only
        self.ended = False
        self.partial: Partial | None = None
        self.lookup, self.trail = PromptLookup(), Trail()
        self._sampling = sampling
        self.ends = frozenset(sampling.stop_ids).union(() if sampling.ignore_eos else stops)
        self._chooser: Chooser | None = None

    def check(self, vocabulary: int) -> None:
        """Set `broken` where the model cannot compute what was asked. Looks once, on the worker's thread."""
        if self._chooser is None and not self.broken:
            self.broken = why_not(self.tokens, self._sampling, self.ends, vocabulary)
            if not self.broken:
                self._chooser = Chooser(self._sampling, self.ends, self.prompt_tokens)

    @property
    def chooser(self) -> Chooser:
        """How its tokens are chosen; there is one once `check` has found nothing wrong."""
        assert self._chooser
        return self._chooser

    def fail(self, reason: str) -> None:
        """Compute no more of it: its KV may be half a step ahead of its tokens."""
        self.broken, self.ended, self.partial = self.broken or reason, True, None

    @property
    def left(self) -> int:
        """Output tokens it may still emit."""
        return self.max_tokens - (len(self.tokens) - self.prompt_tokens)


@dataclass(frozen=True, slots=True)
class Job:
    """A work as it was when its step was given out: the sequence may change while the step is in flight."""

    entry: Entry
    start: int | None  # None: wherever the step before it ends
    tokens: int  # drafts included
    drafts: int
    first: int  # layers
    last: int
    blocks: tuple[int, ...]


class Books:
    """All entries of an executor. `stops` are the ids at which the model ends a sequence."""

    def __init__(self, layers: int, stops: frozenset[int] = frozenset()) -> None:
        self._layers, self._stops = layers, stops
        self._entries: dict[int, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, sequence: Sequence) -> Entry:
        """Return the entry of a sequence, opened if need be."""
        entry = self._entries.get(sequence.request.id)
        if entry is None:
            entry = self._entries[sequence.request.id] = Entry(sequence, self._stops)
        return entry

    def jobs(self, step: Step) -> list[Job]:
        """Take down what a step asks for; call `landed` with them before its result is handed over."""
        return [self._job(work) for work in step.work]

    @staticmethod
    def landed(jobs: list[Job]) -> None:
        """Note that the result of these jobs is about to be applied."""
        for job in jobs:
            job.entry.in_flight -= 1

    def release(self, request_id: int) -> None:
        """Forget a request; unknown ids are ignored."""
        self._entries.pop(request_id, None)

    def _job(self, work: Work) -> Job:
        sequence = work.sequence
        entry = self.entry(sequence)
        # With a step in flight `computed_tokens` lags behind and `pending_tokens` is only an expectation.
        start = None if entry.in_flight else sequence.computed_tokens
        entry.in_flight += 1
        first, last = work.layers or (0, self._layers)
        return Job(
            entry, start, work.tokens, work.draft_tokens, first, last, tuple(sequence.blocks)
        )
