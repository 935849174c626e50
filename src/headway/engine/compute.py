"""Compute one step: a mixed batch, layer by layer, then choose tokens where a sequence's input is complete.

Works of one step may cover different layers: between two boundaries the works that cover them form a batch. A work
that cannot be computed fails alone: what raises with all is tried again with each (KV is written to the same places).

Drafts are verified as in Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", ICML 2023,
at temperature 0: the run that matches is accepted, plus the token after it. Differs where tokens are drawn: a draft
must be the very token that the draw of its position gives, as in Daliri, Musco and Suresh, "Coupling without
Communication and Drafter-Invariant Speculative Decoding", 2024. That is lossless, the text is the same with and
without drafts, and for a drafter that names one token it accepts as often as rejection sampling does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from time import perf_counter_ns
from typing import NamedTuple

import torch
from torch import Tensor

from headway.core.plan import WorkDone
from headway.core.sampling import TokenLogprob
from headway.engine.books import Entry, Job, Partial
from headway.engine.decoder import Decoder
from headway.engine.drafter import Drafter, Wish
from headway.engine.kv_pool import KvPool
from headway.engine.layout import Span, lay_out
from headway.engine.sampler import Row, choose
from headway.errors import HeadwayError

GoOn = Callable[[int], bool]
"""(layers done) -> compute the next one? Asked between two layers, from the worker's thread."""

NO_NUMBERS = "the model's scores are no numbers (NaN or infinite): look at its weights"


class StepError(HeadwayError):
    """A work cannot be computed as asked; its request fails."""


class Computed(NamedTuple):
    """What came of each job; whether the step stopped before its last layer; nanoseconds by part."""

    done: list[WorkDone]
    stopped: bool
    parts_ns: tuple[tuple[str, int], ...]  # draft, layers, head, sample


@dataclass(slots=True, eq=False)
class _Part:
    """A job under way."""

    entry: Entry
    start: int
    ids: list[int]  # certain tokens, then drafts
    certain: int
    first: int
    last: int
    blocks: tuple[int, ...]
    drafts: int = 0  # wanted; there may be fewer
    begun: Tensor | None = None  # (len(ids), E) after the layers done before this step
    hidden: Tensor | None = None  # (len(ids), E) after the layers done so far
    chosen: list[int] = field(default_factory=list)  # after the last certain token and each draft
    logprobs: list[TokenLogprob] = field(default_factory=list)  # parallel, where asked for

    @property
    def samples(self) -> bool:
        """Does it reach the end of what is known?"""
        return self.start + self.certain == len(self.entry.tokens)


class Compute:
    """Blocking; may be called from several threads at once for disjoint sequences.

    Without a `drafter`, drafts are looked up in the text.
    """

    def __init__(self, model: Decoder, pool: KvPool, drafter: Drafter | None = None) -> None:
        self._model, self._pool, self._drafter = model, pool, drafter
        self._layers = model.config.layers

    @torch.inference_mode()
    def run(self, jobs: Sequence[Job], go_on: GoOn) -> Computed:
        """Compute at least one layer of each job. When it raises, the requests of all jobs are beyond repair."""
        try:
            began_ns = perf_counter_ns()
            parts = [self._begin(job) for job in jobs]
            active = [part for part in parts if part]
            self._draft(active, go_on)
            drafted_ns = perf_counter_ns()
            reached = self._through_layers(active, go_on)
            through_ns = perf_counter_ns()
            head_ns = 0
            if reached == self._layers:
                head_ns = self._choose([part for part in active if self._chooses(part)])
            chosen_ns = perf_counter_ns()
            done = [
                self._finish(part, reached) if part else self._nothing(job.entry)
                for part, job in zip(parts, jobs, strict=True)
            ]
        except Exception:  # ours: these sequences must not go on with half a step in their KV
            for job in jobs:
                job.entry.fail("a step of it failed")
            raise
        parts_ns = (
            ("draft", drafted_ns - began_ns),
            ("layers", through_ns - drafted_ns),
            ("head", head_ns),
            ("sample", chosen_ns - through_ns - head_ns),
        )
        stopped = bool(active) and reached < max(part.last for part in active)
        return Computed(done, stopped, parts_ns)

    def _begin(self, job: Job) -> _Part | None:
        """Find what a job computes; None when there is nothing (left) to compute, or it cannot be."""
        entry = job.entry
        entry.check(self._model.config.vocabulary)
        if entry.broken or entry.ended:
            return None  # planned before it was known that the sequence ends
        try:
            return self._part(job)
        except StepError as error:
            entry.fail(str(error))
            return None

    def _part(self, job: Job) -> _Part | None:
        """Find the tokens and hidden states of a job; None when there is nothing left to compute."""
        entry = job.entry
        partial = entry.partial
        if job.first:
            if partial is None or partial.layer != job.first:
                raise StepError(
                    f"no chunk of {job.tokens} tokens stopped after {job.first} layers: plan it from layer 0"
                )
            return _Part(
                entry,
                partial.start,
                partial.ids,
                partial.certain,
                job.first,
                job.last,
                job.blocks,
                begun=partial.hidden,
            )
        if partial and job.start is None:
            return None  # planned in the belief that the chunk before it would be completed
        entry.partial = None
        start = entry.reached if job.start is None else job.start
        certain = job.tokens - job.drafts
        ids = entry.tokens[start : start + certain]
        if len(ids) < certain or not certain:
            raise StepError(
                f"tokens {start} to {start + certain} asked for, {len(entry.tokens)} are known:"
                " streams whose input arrives later cannot be computed by this engine"
            )
        part = _Part(entry, start, ids, certain, 0, job.last, job.blocks)
        if part.samples:
            part.drafts = job.drafts
        return part

    def _draft(self, parts: Sequence[_Part], go_on: GoOn) -> None:
        """Put drafts behind what is certain, as many as are wanted, or fewer where a model drafts."""
        if self._drafter is None:
            for part in parts:
                if part.drafts:
                    part.ids += part.entry.lookup.propose(part.entry.tokens, part.drafts)
            return
        wishes = [(part, _wish(part)) for part in parts if self._drafts(part)]
        try:
            self._drafter.run([wish for _, wish in wishes], go_on)
        except Exception as error:  # noqa: BLE001 - text is the same without drafts
            warnings.warn(f"the draft model failed: {error}", RuntimeWarning, stacklevel=1)
        for part, wish in wishes:
            part.ids += wish.proposals

    def _drafts(self, part: _Part) -> bool:
        """Has the drafter anything to do: propose, or follow a chunk that ends in this step?"""
        return part.drafts > 0 or (part.certain > 1 and part.last == self._layers)

    def _nothing(self, entry: Entry) -> WorkDone:
        return WorkDone(self._layers, 0, 0, error=entry.broken)

    def _through_layers(self, parts: Sequence[_Part], go_on: GoOn) -> int:
        """Compute layers until the last one asked for or until told to stop; return the layer reached.

        Parts that fail are marked so, and the others get as far as they can: a second try is not stopped.
        """
        try:
            return self._segments(parts, go_on)
        except Exception:  # noqa: BLE001 - somebody's numbers, blocks or memory: find out whose
            _each(parts, lambda part: self._segments([part], lambda _: True))
            return max(part.last for part in parts)

    def _segments(self, parts: Sequence[_Part], go_on: GoOn) -> int:
        for part in parts:
            part.hidden = part.begun
        bounds = sorted({bound for part in parts for bound in (part.first, part.last)})
        for begin, end in pairwise(bounds):
            active = [part for part in parts if part.first <= begin and part.last >= end]
            reached = self._segment(active, begin, end, bounds[-1], go_on) if active else end
            if reached < end or (end < bounds[-1] and active and not go_on(end)):
                return reached
        return bounds[-1] if bounds else self._layers

    def _segment(self, parts: Sequence[_Part], begin: int, end: int, last: int, go_on: GoOn) -> int:
        """Compute layers [begin, end) of works that all cover them."""
        model, pool = self._model, self._pool
        spans = [Span(part.start, len(part.ids), part.blocks) for part in parts]
        layout = lay_out(spans, pool.block_tokens, model.config.window)
        order = sorted(range(len(parts)), key=layout.rows.__getitem__)
        hidden = self._gather([parts[index] for index in order])
        rotations = model.rotations(layout.positions)
        reached = begin
        while reached < end:
            hidden = model.layer(reached, hidden, layout, rotations, pool)
            reached += 1
            if reached < end and reached < last and not go_on(reached):
                break
        for part, row in zip(parts, layout.rows, strict=True):
            part.hidden = hidden[row : row + len(part.ids)]
        return reached

    def _gather(self, parts: Sequence[_Part]) -> Tensor:
        if all(part.hidden is None for part in parts):
            return self._model.embed(torch.tensor([token for part in parts for token in part.ids]))
        return torch.cat(
            [
                self._model.embed(torch.tensor(part.ids)) if part.hidden is None else part.hidden
                for part in parts
            ]
        )

    def _chooses(self, part: _Part) -> bool:
        return part.samples and part.last == self._layers and not part.entry.broken

    def _choose(self, parts: Sequence[_Part]) -> int:
        """Choose the token after each part's last certain one and after each draft; return the head's time."""
        try:
            return self._choose_together(parts)
        except Exception:  # noqa: BLE001 - as in the layers
            _each(parts, lambda part: self._choose_together([part]))
            return 0

    def _choose_together(self, parts: Sequence[_Part]) -> int:
        hidden = [part.hidden[part.certain - 1 :] for part in parts if part.hidden is not None]
        if not hidden:
            return 0
        began_ns = perf_counter_ns()
        scores = self._model.head(torch.cat(hidden))
        head_ns = perf_counter_ns() - began_ns
        ids, logprobs = choose(scores, [row for part in parts for row in _rows(part)])
        at = 0
        for part, rows in zip(parts, hidden, strict=True):
            end = at + len(rows)
            part.chosen = ids[at:end]
            part.logprobs = [logprobs[row] for row in range(at, end) if row in logprobs]
            at = end
        return head_ns

    def _finish(self, part: _Part, reached: int) -> WorkDone:
        """Write progress into the entry."""
        entry = part.entry
        if entry.broken:
            return self._nothing(entry)
        layers = max(part.first, min(reached, part.last))
        if layers < self._layers:
            if part.hidden is not None:
                hidden = part.hidden.clone()  # a slice would keep the whole batch alive
                entry.partial = Partial(part.start, part.ids, part.certain, layers, hidden)
            return WorkDone(layers, 0, 0)
        entry.partial = None
        if not part.chosen:
            entry.reached = part.start + part.certain
            return WorkDone(layers, part.certain, 0)
        drafts = zip(part.ids[part.certain :], part.chosen, strict=False)
        accepted = len(list(takewhile(lambda pair: pair[0] == pair[1], drafts)))
        ids = part.chosen[: min(accepted + 1, entry.left)]
        stop = next((index for index, token in enumerate(ids) if token in entry.ends), None)
        if stop is not None:
            ids = ids[: stop + 1]
        if -1 in ids:
            entry.fail(NO_NUMBERS)
            return self._nothing(entry)
        entry.tokens += ids
        entry.reached = part.start + part.certain + len(ids) - 1
        entry.ended = stop is not None or entry.left <= 0
        return WorkDone(
            layers,
            entry.reached - part.start,
            len(ids),
            stop is not None,
            tuple(ids),
            tuple(part.logprobs[: len(ids)]),
        )


def _rows(part: _Part) -> list[Row]:
    """Return whose scores those of a part are: after its last certain token, and after each draft."""
    chooser, drafts = part.entry.chooser, part.ids[part.certain :]
    chooser.follow(part.entry.tokens)
    position = part.start + part.certain
    return [Row(chooser, position + ahead, drafts[:ahead]) for ahead in range(len(drafts) + 1)]


def _wish(part: _Part) -> Wish:
    end, entry = part.start + part.certain, part.entry
    return Wish(entry.tokens, end, part.certain, part.blocks, entry.trail, part.drafts)


def _each(parts: Sequence[_Part], work: Callable[[_Part], object]) -> None:
    """Do for each part what raised when done for all; those for which it raises again fail."""
    for part in parts:
        try:
            work(part)
        except Exception as error:  # noqa: BLE001 - reported as the end of its request
            part.entry.fail(f"{type(error).__name__}: {error}")
