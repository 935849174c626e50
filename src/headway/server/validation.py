"""From what a client wrote to what a sampler may be asked: every number in its range, before anything is made.

Both front ends pass through here; the engine's side trusts what comes out, and checks it again.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass

import msgspec

from headway.core.sampling import Sampling
from headway.server.bodies import ChatBody, CompletionBody, GenerateBody
from headway.server.errors import ApiError, invalid
from headway.server.settings import Settings
from headway.server.stream import ServedModel

MOST_SEED = 2**63 - 1
LEAST_PENALTY = 1e-6  # a factor on scores: below it the engine would lose all else
_STRIDE = 0x9E3779B97F4A7C15  # odd, so that derived seeds do not repeat

_REFUSED = (
    "prompt_logprobs",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A call's parameters, checked. `sampling` carries the seed of the first choice."""

    sampling: Sampling
    n: int
    max_tokens: int | None
    stops: tuple[str, ...]
    include_stop: bool
    skip_special: bool
    stream: bool
    include_usage: bool
    continuous_usage: bool

    def seed_of(self, choice: int) -> int:
        """Choice 0 has the client's seed; the others' follow from it."""
        return (self.sampling.seed + choice * _STRIDE) & MOST_SEED


def check_model(name: str | None, model: ServedModel) -> None:
    """Raise 404 for another model than the served one; none at all is fine."""
    if name is not None and name != model.name:
        raise ApiError(
            404,
            f"The model {_quoted(name)} does not exist here; this server has {_quoted(model.name)}.",
            code="model_not_found",
            param="model",
        )


def asked(body: GenerateBody, model: ServedModel, settings: Settings) -> Asked:
    """Check everything but the prompt.

    Raises:
        ApiError: 400, naming the field, the value and the limit.
    """
    _refuse(body)
    options = body.stream_options
    if options is not None and not body.stream:
        raise invalid("stream_options", "stream_options needs stream: true.")
    stop_ids = body.stop_token_ids or []
    if len(stop_ids) > 128:
        raise invalid("stop_token_ids", f"{len(stop_ids)} stop_token_ids; at most 128.")
    max_tokens = body.max_tokens
    if isinstance(body, ChatBody) and body.max_completion_tokens is not None:
        max_tokens = body.max_completion_tokens
    if max_tokens is not None:
        _whole("max_tokens", max_tokens, 1, None, 0)
    elif isinstance(body, CompletionBody):
        max_tokens = settings.completion_tokens
    min_tokens = _whole("min_tokens", body.min_tokens, 0, max_tokens or model.context_tokens, 0)
    return Asked(
        sampling=Sampling(
            temperature=_real("temperature", body.temperature, 0, 2, 1.0),
            top_k=_top_k(body.top_k, model),
            top_p=_real("top_p", body.top_p, 0, 1, 1.0, open_low=True),
            min_p=_real("min_p", body.min_p, 0, 1, 0.0),
            repetition_penalty=_real(
                "repetition_penalty", body.repetition_penalty, LEAST_PENALTY, 2, 1.0
            ),
            presence_penalty=_real("presence_penalty", body.presence_penalty, -2, 2, 0.0),
            frequency_penalty=_real("frequency_penalty", body.frequency_penalty, -2, 2, 0.0),
            seed=_seed(body.seed),
            logit_bias=_biases(body.logit_bias, model, settings),
            min_tokens=min_tokens,
            ignore_eos=bool(body.ignore_eos),
            stop_ids=tuple(
                _token("stop_token_ids", token, model) for token in dict.fromkeys(stop_ids)
            ),
            logprobs=_logprobs(body, settings),
        ),
        n=_whole("n", body.n, 1, settings.most_choices, 1),
        max_tokens=max_tokens,
        stops=_stops(body.stop, settings),
        include_stop=bool(body.include_stop_str_in_output),
        skip_special=body.skip_special_tokens is not False,
        stream=bool(body.stream),
        include_usage=bool(options and options.include_usage),
        continuous_usage=bool(options and options.include_usage and options.continuous_usage_stats),
    )


def check_tokens(param: str, ids: list[int], model: ServedModel) -> None:
    """Raise unless every id is in the vocabulary."""
    if ids and (min(ids) < 0 or max(ids) >= model.vocabulary):
        wrong = next(token for token in ids if not 0 <= token < model.vocabulary)
        _token(param, wrong, model)


def _refuse(body: GenerateBody) -> None:
    for name in _REFUSED:
        value = getattr(body, name)
        if value is not None and not (isinstance(value, msgspec.Raw) and bytes(value) == b"null"):
            raise invalid(name, f"{name} is not supported here: leave it out.", "unsupported")
    if body.response_format is not None and body.response_format.type != "text":
        raise invalid(
            "response_format",
            "Only response_format type text is supported here: leave it out.",
            "unsupported",
        )
    if isinstance(body, CompletionBody):
        if body.best_of is not None and body.best_of != 1:
            raise invalid("best_of", "best_of is not supported here: use n.", "unsupported")
        if body.suffix:
            raise invalid("suffix", "suffix is not supported here: leave it out.", "unsupported")
        if body.echo and body.logprobs is not None:
            raise invalid(
                "echo", "echo with logprobs is not supported here: ask for one.", "unsupported"
            )
    if isinstance(body, ChatBody):
        _refuse_chat(body)


def _refuse_chat(body: ChatBody) -> None:
    choice = None if body.tool_choice is None else bytes(body.tool_choice)
    if (body.tools or body.functions) and choice != b'"none"':
        raise invalid("tools", "Tools are not supported here: leave them out.", "unsupported")
    if body.modalities and body.modalities != ["text"]:
        raise invalid("modalities", "Only text is served here.", "unsupported")
    if body.chat_template is not None:
        raise invalid(
            "chat_template", "Chat templates are the operator's: leave yours out.", "unsupported"
        )


def _logprobs(body: GenerateBody, settings: Settings) -> int | None:
    if isinstance(body, CompletionBody):
        if body.logprobs is None:
            return None
        return _whole("logprobs", body.logprobs, 0, settings.most_logprobs, 0)
    if isinstance(body, ChatBody):
        top = _whole("top_logprobs", body.top_logprobs, 0, settings.most_logprobs, 0)
        if top and not body.logprobs:
            raise invalid("top_logprobs", "top_logprobs needs logprobs: true.")
        return top if body.logprobs else None
    return None


def _stops(stop: str | list[str] | None, settings: Settings) -> tuple[str, ...]:
    stops = [] if stop is None else [stop] if isinstance(stop, str) else stop
    if len(stops) > settings.most_stops:
        raise invalid("stop", f"{len(stops)} stop strings; at most {settings.most_stops}.")
    for text in stops:
        if not text:
            raise invalid("stop", "A stop string is empty: leave it out.")
        if len(text) > settings.most_stop_chars:
            raise invalid(
                "stop",
                f"A stop string has {len(text)} characters; at most {settings.most_stop_chars}.",
            )
    return tuple(dict.fromkeys(stops))


def _biases(
    biases: dict[str, float] | None, model: ServedModel, settings: Settings
) -> tuple[tuple[int, float], ...]:
    if not biases:
        return ()
    if len(biases) > settings.most_biases:
        raise invalid("logit_bias", f"{len(biases)} logit biases; at most {settings.most_biases}.")
    found: dict[int, float] = {}
    for name, value in biases.items():
        if not (name.isascii() and name.isdigit() and len(name) < 12):
            raise invalid("logit_bias", "A key of logit_bias is not a token id.")
        token = _token("logit_bias", int(name), model)
        if token in found:
            raise invalid("logit_bias", f"logit_bias names token {token} twice.")
        found[token] = _real("logit_bias", value, -100, 100, 0.0)
    return tuple(found.items())


def _top_k(top_k: int | None, model: ServedModel) -> int:
    """0 is all, and so is -1, and so is more than there are."""
    kept = _whole("top_k", top_k, -1, None, 0)
    return kept if 0 < kept < model.vocabulary else 0


def _seed(seed: int | None) -> int:
    if seed is None:
        return secrets.randbelow(MOST_SEED)
    return _whole("seed", seed, -MOST_SEED - 1, 2**64 - 1, 0) & MOST_SEED


def _token(param: str, token: int, model: ServedModel) -> int:
    if not 0 <= token < model.vocabulary:
        raise invalid(
            param,
            f"{param}: token {_number(token)} is not in the vocabulary of {model.vocabulary} tokens.",
        )
    return token


def _whole(name: str, value: int | None, low: int, high: int | None, default: int) -> int:
    if value is None:
        return default
    if value < low or (high is not None and value > high):
        limit = f"at least {low}" if high is None else f"{low} to {high}"
        raise invalid(name, f"{name} is {_number(value)}; it must be {limit}.")
    return value


def _real(
    name: str,
    value: float | None,
    low: float,
    high: float,
    default: float,
    *,
    open_low: bool = False,
) -> float:
    if value is None:
        return default
    if not math.isfinite(value) or not low <= value <= high or (open_low and value == low):
        limit = f"above {low:g}, up to {high:g}" if open_low else f"{low:g} to {high:g}"
        raise invalid(name, f"{name} is {value:g}; it must be {limit}.")
    return float(value)


def _number(value: int) -> str:
    return str(value) if abs(value) < 10**18 else "a very large number"


def _quoted(text: str) -> str:
    """Fit for a message and for a log: short, and without control characters."""
    return ascii(text if len(text) <= 80 else text[:79] + "…")
