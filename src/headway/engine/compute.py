"""Compute one step: a mixed batch, layer by layer, then sample where a sequence's input is complete.

Works of one step may cover different layers: between two boundaries the works that cover them form a batch.
Sampling is greedy. Drafts are verified as in Leviathan et al., "Fast Inference from Transformers via
Speculative Decoding", ICML 2023, at temperature 0: the matching run is accepted, plus the token after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile

import torch
from torch import Tensor

from headway.core.plan import WorkDone
from headway.engine.books import Entry, Job, Partial
from headway.engine.decoder import Decoder
from headway.engine.kv_pool import KvPool
from headway.engine.layout import Span, lay_out
from headway.errors import HeadwayError

GoOn = Callable[[int], bool]
"""(layers done) -> compute the next one? Asked between two layers, from the worker's thread."""


class StepError(HeadwayError):
    """A step cannot be computed as asked; its requests fail."""


@dataclass(slots=True)
class _Part:
    """A job under way."""

    entry: Entry
    start: int
    ids: list[int]  # certain tokens, then drafts
    certain: int
    first: int
    last: int
    blocks: tuple[int, ...]
    hidden: Tensor | None = None  # (len(ids), E) after the layers done so far

    @property
    def samples(self) -> bool:
        """Does it reach the end of what is known?"""
        return self.start + self.certain == len(self.entry.tokens)


class Compute:
    """Blocking; may be called from several threads at once for disjoint sequences."""

    def __init__(self, model: Decoder, pool: KvPool, stops: frozenset[int]) -> None:
        self._model, self._pool, self._stops = model, pool, stops
        self._layers = model.config.layers

    @torch.inference_mode()
    def run(self, jobs: Sequence[Job], go_on: GoOn) -> tuple[list[WorkDone], bool]:
        """Return what came of each job, and whether the step stopped before its last layer.

        At least one layer is computed. When it raises, the requests of all jobs are beyond repair.
        """
        try:
            parts = [self._begin(job) for job in jobs]
            active = [part for part in parts if part]
            reached = self._through_layers(active, go_on)
            outputs = (
                self._sample(
                    [part for part in active if part.samples and part.last == self._layers]
                )
                if reached == self._layers
                else {}
            )
            done = [
                self._finish(part, reached, outputs.get(id(part), []))
                if part
                else WorkDone(self._layers, 0, 0)
                for part in parts
            ]
        except (
            Exception
        ):  # whatever it is: these sequences must not go on with half a step in their KV
            for job in jobs:
                job.entry.ended = True
            raise
        return done, bool(active) and reached < max(part.last for part in active)

    def _begin(self, job: Job) -> _Part | None:
        """Find the tokens and hidden states of a job; None when there is nothing left to compute."""
        entry = job.entry
        if entry.broken:
            raise StepError(entry.broken)
        if entry.ended:
            return None  # planned before it was known that the sequence ends
        partial = entry.partial
        if job.first:
            if partial is None or partial.layer != job.first:
                raise StepError(
                    f"no chunk of {job.tokens} tokens stopped after {job.first} layers: plan it from layer 0"
                )
            part = _Part(
                entry, partial.start, partial.ids, partial.certain, job.first, job.last, job.blocks
            )
            part.hidden = partial.hidden
            return part
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
        if job.drafts and part.samples:
            part.ids = ids + entry.lookup.propose(entry.tokens, job.drafts)
        return part

    def _through_layers(self, parts: Sequence[_Part], go_on: GoOn) -> int:
        """Compute layers until the last one asked for or until told to stop; return the layer reached."""
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

    def _sample(self, parts: Sequence[_Part]) -> dict[int, list[int]]:
        """Return, by identity of the part, the best token after its last certain one and each draft."""
        hidden = [part.hidden[part.certain - 1 :] for part in parts if part.hidden is not None]
        if not hidden:
            return {}
        best = self._model.head(torch.cat(hidden)).argmax(-1).tolist()
        outputs, at = {}, 0
        for part, rows in zip(parts, hidden, strict=True):
            outputs[id(part)] = best[at : at + len(rows)]
            at += len(rows)
        return outputs

    def _finish(self, part: _Part, reached: int, best: list[int]) -> WorkDone:
        """Write progress into the entry."""
        entry = part.entry
        layers = max(part.first, min(reached, part.last))
        if layers < self._layers:
            if part.hidden is not None:
                hidden = part.hidden.clone()  # a slice would keep the whole batch alive
                entry.partial = Partial(part.start, part.ids, part.certain, layers, hidden)
            return WorkDone(layers, 0, 0)
        entry.partial = None
        if not best:
            entry.reached = part.start + part.certain
            return WorkDone(layers, part.certain, 0)
        drafts = part.ids[part.certain :]
        accepted = len(
            list(takewhile(lambda pair: pair[0] == pair[1], zip(drafts, best, strict=False)))
        )
        ids = best[: min(accepted + 1, entry.left)]
        stop = next((index for index, token in enumerate(ids) if token in self._stops), None)
        if stop is not None:
            ids = ids[: stop + 1]
        entry.tokens += ids
        entry.reached = part.start + part.certain + len(ids) - 1
        entry.ended = stop is not None or entry.left <= 0
        return WorkDone(layers, entry.reached - part.start, len(ids), stop is not None, tuple(ids))
