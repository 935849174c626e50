"""Layered prefill: a cohort of prompts advances by one group of layers a step, while every decode runs all of them.

Chunks read the experts of every layer anew; here a layer's experts are read once for the whole cohort. A group does
about the work of one chunk, so decodes wait no longer than under chunked prefill.

Source: Layered Prefill, "From Tokens to Layers", with its published code: groups by the cohort's tokens (1 up to 512,
then doubling to 16), one cohort in flight, nobody joins it midway. Differs: never more groups than layers; a prompt
that is preempted leaves its cohort.
Cost: O(running + started) per step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from headway.core import InstanceView, Sequence, StepPlan, Work


@dataclass
class LayeredPrefill:
    """Options: tokens of a cohort, tokens whose pass through all layers is one step's work, most groups."""

    needs: ClassVar[frozenset[str]] = frozenset({"layers"})

    max_num_batched_tokens: int = 8192
    group_tokens: int = 512
    most_groups: int = 16
    max_num_seqs: int = 256
    _cohort: set[int] = field(default_factory=set, init=False, repr=False)  # request ids
    _bounds: list[int] = field(default_factory=list, init=False, repr=False)  # last layers, by step

    @property
    def step_tokens(self) -> int:
        """Most tokens one step computes."""
        return self.max_num_batched_tokens + self.max_num_seqs

    def plan(self, view: InstanceView) -> StepPlan:
        """All decodes through all layers, and the cohort through its next group."""
        decodes = view.take_decodes(limit=self.max_num_seqs)
        works = self._advance(view)
        if not works:
            works = self._start(view)
        return StepPlan({"main": [*decodes, *works]}, steady=not works)

    def _advance(self, view: InstanceView) -> list[Work]:
        """The next group for those of the cohort who are still between two layers."""
        cohort = [one for one in view.prefilling if one.id in self._cohort and one.partial]
        if not cohort:
            return []
        reached = min(one.partial[1] for one in cohort if one.partial)
        last = next((bound for bound in self._bounds if bound > reached), view.layers)
        taken = [
            view.take(one, one.partial[0], layers=(one.partial[1], last))
            for one in cohort
            if one.partial and one.partial[1] == reached
        ]
        return [work for work in taken if work]

    def _start(self, view: InstanceView) -> list[Work]:
        """A new cohort: prompts that a cohort left unfinished, then those who wait, until it is full."""
        chosen: list[tuple[Sequence, int]] = []
        left = self.max_num_batched_tokens
        running = len(view.running)
        for sequence in [*view.prefilling, *view.waiting]:
            starts = sequence.state == "waiting"
            if left <= 0 or (starts and running >= self.max_num_seqs):
                break
            tokens = min(left, sequence.remaining_tokens)
            chosen.append((sequence, tokens))
            left -= tokens
            running += starts
        self._bounds = self._groups(view.layers, self.max_num_batched_tokens - left)
        works = []
        for sequence, tokens in chosen:
            whole = len(self._bounds) == 1 and not sequence.partial
            layers = None if whole else (0, self._bounds[0])
            work = view.take(sequence, tokens, layers=layers)
            if work is not None:
                works.append(work)
            elif sequence.state == "waiting":
                break  # no room: nobody behind it goes first
        self._cohort = {work.sequence.id for work in works}
        return works

    def _groups(self, layers: int, tokens: int) -> list[int]:
        """Last layer of each group, ends included: as many groups as keep a step at `group_tokens`."""
        groups = 1
        while groups < min(self.most_groups, layers) and tokens > groups * self.group_tokens:
            groups *= 2
        groups = min(groups, layers)
        return [layers * (group + 1) // groups for group in range(groups)]
