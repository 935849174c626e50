"""Sequences and steps as the runtime would hand them to a timing model."""

from __future__ import annotations

from collections.abc import Iterable

from headway.core import Request, Sequence, Step, Work


def prompt(context: int, total: int) -> Sequence:
    """A sequence with `context` computed tokens of `total`."""
    sequence = Sequence(Request(0, 0, max(total, 1), 1000))
    sequence.total_tokens, sequence.computed_tokens = total, context
    return sequence


def decode(context: int) -> Work:
    """One token that ends the input: the next is sampled."""
    return prompt(context, context + 1).decode


def chunk(tokens: int, context: int, *, ends: bool = False) -> Work:
    """A prefill chunk; unless it `ends` the prompt, far more is to come."""
    total = context + tokens + (0 if ends else 1_000_000)
    return Work(prompt(context, total), tokens)


def step(*works: Work, repeats: int = 1) -> Step:
    """The works on the main lane."""
    return Step(0, "main", works, repeats)


def grown(works: Iterable[Work], repeat: int) -> list[Work]:
    """The same works after `repeat` repeats have landed."""
    later = []
    for work in works:
        old = work.sequence
        added = repeat * work.tokens
        reaches_end = old.computed_tokens + work.tokens - work.draft_tokens >= old.total_tokens
        total = old.total_tokens + (added if reaches_end else 0)
        later.append(work._replace(sequence=prompt(old.computed_tokens + added, total)))
    return later
