"""How the next token is drawn from the model's scores. Immutable; greedy unless asked otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Sampling:
    """What a client asks of the sampler; names and meanings follow the OpenAI API and vLLM's additions.

    A draw is a function of (seed, position in the sequence), never of a stream: it survives preemption,
    migration and restarts.
    """

    temperature: float = 0.0  # 0: greedy
    top_k: int = 0  # 0: all
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0  # over prompt and output
    presence_penalty: float = 0.0  # over output
    frequency_penalty: float = 0.0  # over output
    seed: int = 0  # whoever takes the request draws one when the client gave none
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token id, bias)
    min_tokens: int = 0  # no stop before so many output tokens
    ignore_eos: bool = False  # only max_tokens and stop_ids end it
    stop_ids: tuple[int, ...] = ()  # end it beside the model's own
    logprobs: int | None = None  # so many alternatives with each output token; 0: its own only


GREEDY = Sampling()


class TokenLogprob(NamedTuple):
    """Log-probabilities (natural) at one output position, before temperature and penalties."""

    logprob: float  # of the token that was taken
    top: tuple[tuple[int, float], ...] = ()  # (token id, logprob), best first
