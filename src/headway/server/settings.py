"""What an operator may set about the HTTP side. The defaults are meant to be safe on an open network."""

from __future__ import annotations

from dataclasses import dataclass

from headway.core.request import NO_SLO, Slo


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits, keys and promises of the server. Every limit holds before anything of that size is made."""

    api_keys: tuple[str, ...] = ()  # none: no key is asked for
    open_metrics: bool = False  # /metrics without a key
    slo: Slo = NO_SLO  # what a request is promised unless it says otherwise
    most_body_bytes: int = 8 * 1024 * 1024
    body_timeout_s: float = 10.0  # from the header's end to the body's end
    most_choices: int = 128  # prompts × n of one call
    most_stops: int = 16
    most_stop_chars: int = 1024  # of one stop string
    most_logprobs: int = 20
    most_biases: int = 1024
    most_messages: int = 4096
    completion_tokens: int = (
        16  # /v1/completions without max_tokens; chat runs to the context's end
    )
    most_unread_pieces: int = 4096  # a reader so far behind is cut off
    inline_chars: int = 2000  # longer texts are tokenised in a thread
    announce_ignored: bool = True  # name ignored body fields in a response header
