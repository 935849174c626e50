"""Log-probabilities in the two shapes that OpenAI gives them: completions' columns and chat's rows."""

from __future__ import annotations

from collections.abc import Sequence

from headway.checkpoint.tokenizer import Tokenizer
from headway.core.sampling import TokenLogprob
from headway.server.answers import ChatLogprob, ChatLogprobs, CompletionLogprobs, TopLogprob

LEAST = -9999.0  # JSON has no −∞; clients know this number from vLLM


def columns(
    tokenizer: Tokenizer, ids: Sequence[int], logprobs: Sequence[TokenLogprob], offset: int
) -> CompletionLogprobs:
    """Completions' shape; `offset` is where the first of these tokens begins in the text."""
    tokens = [tokenizer.token_text(token) for token in ids]
    offsets = []
    for text in tokens:
        offsets.append(offset)
        offset += len(text)
    tops = [
        {tokenizer.token_text(token): _finite(value) for token, value in one.top}
        for one in logprobs
    ]
    return CompletionLogprobs(
        offsets, [_finite(one.logprob) for one in logprobs], tokens, [top or None for top in tops]
    )


def joined(parts: Sequence[CompletionLogprobs]) -> CompletionLogprobs:
    """One answer's columns from those of its pieces."""
    return CompletionLogprobs(
        [x for part in parts for x in part.text_offset],
        [x for part in parts for x in part.token_logprobs],
        [x for part in parts for x in part.tokens],
        [x for part in parts for x in part.top_logprobs],
    )


def rows(
    tokenizer: Tokenizer, ids: Sequence[int], logprobs: Sequence[TokenLogprob]
) -> ChatLogprobs:
    """Chat's shape."""
    content = []
    for token, one in zip(ids, logprobs, strict=False):
        tops = [
            TopLogprob(tokenizer.token_text(other), _finite(value), _bytes(tokenizer, other))
            for other, value in one.top
        ]
        text, data = tokenizer.token_text(token), _bytes(tokenizer, token)
        content.append(ChatLogprob(text, _finite(one.logprob), data, tops))
    return ChatLogprobs(content)


def _bytes(tokenizer: Tokenizer, token: int) -> list[int]:
    return list(tokenizer.token_bytes(token))


def _finite(value: float) -> float:
    return max(LEAST, value) if value == value else LEAST  # noqa: PLR0124 - NaN is not itself
