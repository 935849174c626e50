"""Mooncake traces: JSON lines with `timestamp` (ms), `input_length`, `output_length`, `hash_ids`.

Every hash names a block of 512 prompt tokens and all before it; the last block is cut to the prompt's
length. Ids are counters of one file: the same id in two files means nothing.

Source: Qin et al., "Mooncake: Trading More Storage for Less Computation", FAST 2025.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Annotated

import msgspec

from headway.core import NS_PER_MS, PrefixExtent
from headway.workload.trace_rows import Row, bad_json, bad_value

BLOCK_TOKENS = 512

_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Line(msgspec.Struct, gc=False):
    timestamp: Annotated[float, msgspec.Meta(ge=0)]
    input_length: _Count
    output_length: _Count
    hash_ids: tuple[int, ...] = ()


def rows(lines: Iterable[bytes], name: str) -> Iterator[Row]:
    """Read rows; `name` is what errors call the file."""
    decode = msgspec.json.Decoder(_Line).decode
    for number, raw in enumerate(lines, 1):
        try:
            line = decode(raw)
        except msgspec.MsgspecError as error:
            if not raw.strip():
                continue
            raise bad_json(name, number, raw, error) from None
        ids, prompt_tokens = line.hash_ids, line.input_length
        prefix: tuple[PrefixExtent, ...] = ()
        if ids:
            full = len(ids) - 1
            last_tokens = min(prompt_tokens - full * BLOCK_TOKENS, BLOCK_TOKENS)
            if last_tokens <= 0:
                limit = f"at most {-(-prompt_tokens // BLOCK_TOKENS)} for {prompt_tokens} tokens"
                raise bad_value(name, number, "the number of hash_ids", len(ids), limit)
            prefix = (*zip(ids[:full], repeat(BLOCK_TOKENS)), (ids[full], last_tokens))
        time_ns = round(line.timestamp * NS_PER_MS)
        yield Row(number, time_ns, prompt_tokens, line.output_length, prefix=prefix)
