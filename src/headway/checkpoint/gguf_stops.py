"""Which tokens end an answer, as a GGUF file says or as the names of its control tokens imply."""

from __future__ import annotations

from collections.abc import Mapping

from headway.checkpoint.gguf_file import GgufFile

# Files often name one of the two: the end of the text, or the end of a turn in a chat.
_ENDS = frozenset(
    "<eos> </s> <|endoftext|> <|end_of_text|> <|eot_id|> <|eom_id|> <|im_end|> <|end|> <end_of_turn>"
    " <turn|> <|return|> <EOT> <|end▁of▁sentence|> <｜end▁of▁sentence｜>".split()
)


def stops_from_gguf(file: GgufFile, control: Mapping[str, int]) -> frozenset[int]:
    """Collect them."""
    keys = (f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))
    said = {int(file.number(key)) for key in keys if isinstance(file.metadata.get(key), int)}
    return frozenset(said | {control[text] for text in _ENDS & control.keys()})
