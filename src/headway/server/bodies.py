"""The bodies of the calls, as they are read. Absent and null mean the same: not given."""

from __future__ import annotations

from typing import Any

import msgspec


class StreamOptions(msgspec.Struct):
    """What a stream carries beside its text."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: bool | None = None  # accepted, without effect


class SloTargets(msgspec.Struct):
    """What the client wants promised, in milliseconds."""

    ttft_ms: float | None = None
    tpot_ms: float | None = None
    e2e_ms: float | None = None
    deadline_ms: float | None = None


class ResponseFormat(msgspec.Struct):
    """Only `text` is served."""

    type: str


class GenerateBody(msgspec.Struct):
    """What completions and chat have in common; names and meanings are OpenAI's and vLLM's."""

    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None
    prompt_cache_key: str | None = None  # names the conversation that this is a turn of
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    slo: SloTargets | None = None
    response_format: ResponseFormat | None = None
    # Known, and refused unless they ask for nothing: a client that relies on them must not be misled.
    prompt_logprobs: int | None = None
    structured_outputs: msgspec.Raw | None = None
    guided_json: msgspec.Raw | None = None
    guided_regex: msgspec.Raw | None = None
    guided_choice: msgspec.Raw | None = None
    guided_grammar: msgspec.Raw | None = None


class CompletionBody(GenerateBody):
    """POST /v1/completions."""

    prompt: str | list[str | int | list[int]] | None = None
    echo: bool | None = None
    logprobs: int | None = None
    best_of: int | None = None
    suffix: str | None = None


class Part(msgspec.Struct):
    """One part of a message's content. Only text parts are served."""

    type: str
    text: str | None = None


class Message(msgspec.Struct):
    """One message of a conversation."""

    role: str
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: msgspec.Raw | None = None
    tool_call_id: str | None = None


class ChatBody(GenerateBody):
    """POST /v1/chat/completions."""

    messages: list[Message] | None = None
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    add_generation_prompt: bool | None = None
    tools: list[msgspec.Raw] | None = None
    functions: list[msgspec.Raw] | None = None
    tool_choice: msgspec.Raw | None = None
    modalities: list[str] | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None  # switches such as enable_thinking


class TokenizeBody(msgspec.Struct):
    """POST /tokenize: a text, or messages."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeBody(msgspec.Struct):
    """POST /detokenize."""

    model: str | None = None
    tokens: list[int] | None = None
