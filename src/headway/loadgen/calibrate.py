"""How many tokens a word is to this server: asked of its `/tokenize`, else read off its usage."""

from __future__ import annotations

import aiohttp
import msgspec

from headway.loadgen.endpoint import CHAT, Endpoint
from headway.loadgen.prompts import WordRate
from headway.loadgen.words import WORDS

# Words. The difference is every word once, in another order: what a word costs; the rest is the template.
_FEW, _MANY = 50, 50 + len(WORDS)
_STRIDE = 97  # coprime to how many there are, so that neighbours are not those of a sentence
_LIMIT = aiohttp.ClientTimeout(total=30)


async def word_rate(session: aiohttp.ClientSession, endpoint: Endpoint) -> WordRate | None:
    """Measure with two prompts; None when the server counts nothing for us."""
    few, many = await _counted(session, endpoint, _FEW), await _counted(session, endpoint, _MANY)
    if few is None or many is None or many <= few:
        return None
    each = (many - few) / (_MANY - _FEW)
    return WordRate(each, few - each * _FEW)


async def _counted(session: aiohttp.ClientSession, endpoint: Endpoint, words: int) -> int | None:
    text = " ".join(WORDS[place * _STRIDE % len(WORDS)] for place in range(words))
    prompt: dict[str, object] = {"prompt": text}
    if endpoint.kind == CHAT:
        prompt = {"messages": [{"role": "user", "content": text}]}
    asked = {"model": endpoint.model, **prompt}
    told = await _posted(session, f"{endpoint.root}/tokenize", asked)
    count = told.get("count")
    if isinstance(count, int):
        return count
    told = await _posted(session, endpoint.url, asked | {"max_tokens": 1})
    usage = told.get("usage")
    count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return count if isinstance(count, int) else None


async def _posted(
    session: aiohttp.ClientSession, url: str, asked: dict[str, object]
) -> dict[str, object]:
    try:
        async with session.post(url, data=msgspec.json.encode(asked), timeout=_LIMIT) as response:
            if response.status != 200:
                return {}
            told = msgspec.json.decode(await response.read())
    except (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    return told if isinstance(told, dict) else {}
