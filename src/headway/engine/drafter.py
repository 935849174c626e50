"""A draft model: proposes tokens, one pass each for all sequences together, and follows their prompts.

Source: Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", ICML 2023. Proposals are the
draft model's best token, whatever the request's temperature: a proposal that is one token is verified without its
distribution, and text is the same with any drafter (`compute`).

Prompts are computed with the chunk that the target computes, so that none is left to do when decoding begins. What a
sequence lacks otherwise (it was swapped, came from elsewhere, or nothing was drafted for a while) is computed over the
next steps, CATCH_UP tokens each; until then nothing is proposed for it.
Cost: a pass of the draft model for the tokens that are behind, and one for each further token of the longest draft.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from headway.engine.decoder import Decoder
from headway.engine.draft_kv import DraftKv, Trail, after
from headway.engine.kv_pool import KvPool
from headway.engine.layout import Span, lay_out
from headway.engine.sampler import greedy
from headway.errors import OptionError

CATCH_UP = 512  # tokens of a step that sequences lack, its own chunks aside

# Shapes: N tokens of a pass, S sequences of it, E hidden, V vocabulary.


@dataclass(slots=True, eq=False)
class Wish:
    """What the drafter is to do for one sequence: know `tokens` up to `end`, of which `fresh` are new; then propose.

    `blocks` have room for end + drafts - 1 tokens. `proposals` comes out, `drafts` tokens or fewer.
    """

    tokens: Sequence[int]
    end: int
    fresh: int
    blocks: Sequence[int]
    trail: Trail
    drafts: int = 0  # with any, `tokens` end at `end`
    proposals: list[int] = field(default_factory=list)


class _Row(NamedTuple):
    """New tokens of one sequence in one pass, and their marks."""

    wish: Wish
    start: int
    ids: Sequence[int]
    marks: Sequence[int]
    proposes: bool


class Drafter:
    """A model beside the target's `pool`. For several threads at once, on disjoint sequences.

    Raises:
        DoesNotFitError: the memory for its KV cannot be had.
        OptionError: its vocabulary is not the target's.
    """

    def __init__(self, model: Decoder, target: Decoder, pool: KvPool) -> None:
        size, wanted = model.config.vocabulary, target.config.vocabulary
        if size != wanted:
            raise OptionError(
                f"the draft model has {size} tokens, the model {wanted}: choose a draft model with"
                " the same vocabulary"
            )
        self._model = model
        self._kv = DraftKv(model, pool.blocks, pool.block_tokens)

    def run(self, wishes: Sequence[Wish], go_on: Callable[[int], bool]) -> None:
        """Follow and propose. `go_on` is asked between layers; when it says no, what was found so far is left."""
        rows = self._behind(wishes)
        while rows:
            hidden = self._pass(rows, go_on)
            proposing = [n for n, row in enumerate(rows) if row.proposes]
            if hidden is None or not proposing:
                return
            best = greedy(self._model.head(hidden[proposing]))
            following = []
            for n, token in zip(proposing, best, strict=True):
                wish, marks = rows[n].wish, rows[n].marks
                if token < 0:
                    continue  # scores that are no numbers
                start = wish.end + len(wish.proposals)
                wish.proposals.append(token)
                if len(wish.proposals) < wish.drafts:
                    mark = after(marks[-1], token)
                    following.append(_Row(wish, start, [token], [mark], proposes=True))
            rows = following

    def _behind(self, wishes: Sequence[Wish]) -> list[_Row]:
        """Return what the first pass computes."""
        rows, room = [], CATCH_UP
        for wish in wishes:
            if wish.end + wish.drafts > self._model.config.context_tokens:
                continue  # longer than the draft model can see
            marks = wish.trail.marks(wish.tokens, wish.end)
            known = self._kv.known(marks, wish.blocks)
            if wish.drafts:
                known = min(known, wish.end - 1)  # the last token's scores are the first proposal
            late = max(0, wish.end - known - wish.fresh)
            caught = min(late, room)
            room -= caught
            end = wish.end - late + caught
            if end > known:
                own, proposes = marks[known:end].tolist(), wish.drafts > 0 and end == wish.end
                rows.append(_Row(wish, known, wish.tokens[known:end], own, proposes))
        return rows

    def _pass(self, rows: Sequence[_Row], go_on: Callable[[int], bool]) -> Tensor | None:
        """Compute all layers; return the hidden state (S, E) of each row's last token, None when told to stop."""
        model, kv = self._model, self._kv
        for row in rows:
            kv.forget(row.start, len(row.ids), row.wish.blocks)
        spans = [Span(row.start, len(row.ids), row.wish.blocks) for row in rows]
        layout = lay_out(spans, kv.pool.block_tokens, model.config.window)
        order = sorted(range(len(rows)), key=layout.rows.__getitem__)
        hidden = model.embed(torch.tensor([token for n in order for token in rows[n].ids]))
        rotations = model.rotations(layout.positions)
        for layer in range(model.config.layers):
            if not go_on(0):
                return None
            hidden = model.layer(layer, hidden, layout, rotations, kv.pool)
        for row in rows:
            kv.learn(row.start, row.marks, row.wish.blocks)
        last = [first + len(row.ids) - 1 for first, row in zip(layout.rows, rows, strict=True)]
        return hidden[last]
