"""Requests of a diffusion model, made of those of any workload."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from headway.core import Request, Stage
from headway.core.protocols import Offer, Workload
from headway.errors import OptionError
from headway.workload.offered import Offered


@dataclass(frozen=True, slots=True)
class Diffusion:
    """The source's requests with answers that are denoised, `span_tokens` at a time, each span in `span_steps`.

    The client asks for an answer of a fixed length: of so many tokens as the source's output has, at most `most`.
    Defaults are LLaDA's: one token a step, and the first two steps of a span compute everything (its block of 32, with
    a cache built one step late). Prefixes are left out: attention goes both ways.
    """

    source: Workload
    span_tokens: int = 32
    span_steps: int = 32
    refresh_steps: int = 2
    most: int | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        if self.span_tokens < 1 or not 0 < self.refresh_steps <= self.span_steps:
            raise OptionError(
                f"spans of {self.span_tokens} tokens, {self.span_steps} steps, {self.refresh_steps} of them a refresh:"
                " expected at least 1 token, and 1 to all steps"
            )

    def offers(self) -> Iterator[Offered]:
        """Offer the source's requests, denoised."""
        return map(self._denoised, self.source.offers())

    def on_end(self, request: Request, outcome: str, now_ns: int) -> Sequence[Offered]:
        """Offer what the end causes in the source, denoised."""
        return [self._denoised(offer) for offer in self.source.on_end(request, outcome, now_ns)]

    def _denoised(self, offer: Offer) -> Offered:
        request, tokens = offer.request, offer.output_tokens
        if self.most is not None:
            tokens = min(tokens, self.most)
        stage = replace(
            request.stage,
            denoise_tokens=self.span_tokens,
            denoise_steps=self.span_steps,
            refresh_steps=self.refresh_steps,
        )
        stages: tuple[Stage, ...] = (stage,)
        diffused = replace(request, max_tokens=tokens, stages=stages, prefix=(), next_extent=None)
        return Offered(diffused, tokens)
