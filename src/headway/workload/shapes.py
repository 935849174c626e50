"""How long a request is: prompt and output together, because they depend on each other.

`pairs(rng)` yields (prompt tokens, output tokens) without end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Protocol

import numpy as np

from headway.core.protocols import Offer
from headway.errors import OptionError
from headway.workload.arrivals import BLOCK, check_positive
from headway.workload.lengths import Distribution, LogNormal


class Shapes(Protocol):
    """A joint distribution of prompt and output tokens."""

    def pairs(self, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
        """Endless independent pairs."""


@dataclass(frozen=True, slots=True)
class Independent:
    """Prompt and output drawn apart; changing one leaves the draws of the other."""

    prompt: Distribution
    output: Distribution

    def pairs(self, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
        """Endless independent pairs."""
        prompts, outputs = rng.spawn(2)
        return zip(self.prompt.draws(prompts), self.output.draws(outputs), strict=True)


@dataclass(frozen=True, slots=True)
class Seen:
    """Pairs as they were seen together, drawn with replacement."""

    table: Sequence[tuple[int, int]]

    def __post_init__(self) -> None:
        """Check the table."""
        if not self.table or min(min(pair) for pair in self.table) < 1:
            raise OptionError(
                f"a table of {len(self.table)} pairs, expected one or more, "
                "each of 1 token or more: give the pairs that were seen"
            )

    @classmethod
    def of(cls, offers: Iterable[Offer], most: int = 1_000_000) -> Seen:
        """Take the lengths of at most `most` offers, of a trace for example; these are held."""
        taken = islice(offers, most)
        return cls([(offer.request.prompt_tokens, offer.output_tokens) for offer in taken])

    def pairs(self, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
        """Endless independent pairs."""
        table = self.table
        for _ in repeat(None):
            yield from [table[i] for i in rng.integers(0, len(table), BLOCK).tolist()]


@dataclass(frozen=True, slots=True)
class OutputByPrompt:
    """Outputs that depend on the prompt: lognormal around a median that is linear between knots.

    The defaults follow BurstGPT's conversations with ChatGPT: short questions get long answers (240
    tokens), prompts of 100-300 tokens the shortest (95), long ones longer ones again; the 5-95 % band of
    20 to 550 tokens gives sigma.
    """

    prompt: Distribution
    knots: Sequence[tuple[float, float]] = ((20, 240), (100, 95), (300, 95), (2000, 440))
    sigma: float = 1.0
    most: int | None = None

    def __post_init__(self) -> None:
        """Check the curve and its spread."""
        check_positive("sigma", self.sigma)
        prompts = [prompt for prompt, _ in self.knots]
        if not prompts or prompts != sorted(set(prompts)) or min(m for _, m in self.knots) <= 0:
            raise OptionError(
                f"knots {self.knots}: expected rising prompt lengths, each with a median above 0"
            )

    def pairs(self, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
        """Endless independent pairs."""
        prompts, outputs = rng.spawn(2)
        lengths = self.prompt.draws(prompts)
        at, medians = zip(*self.knots, strict=True)
        most = np.inf if self.most is None else self.most
        for _ in repeat(None):
            block = list(islice(lengths, BLOCK))
            spread = np.exp(self.sigma * outputs.standard_normal(BLOCK))
            values = np.ceil(np.interp(block, at, medians) * spread)
            yield from zip(block, np.clip(values, 1, most).astype(np.int64).tolist(), strict=True)


def azure_conversation() -> Independent:
    """Lengths like Azure's conversations of 2023: medians 1,020 in, 129 out; means 1,155 and about 211.

    Cut at 16,384 and 2,048. The real outputs end sooner (p99 601, ours about 1,300).
    """
    return Independent(LogNormal.of(1020, 1155, 16_384), LogNormal.of(129, 211, 2048))
