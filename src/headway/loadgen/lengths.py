"""Did the server do the work that was asked? Achieved lengths against wanted ones."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import Any

from headway.core.fleet import FINISHED_OK
from headway.loadgen.call import Call

_TOLERATED = 0.02
_WORDS_ADVICE = "words are not split alike; token ids (completions) come nearer"
_IDS_ADVICE = "the server may cut prompts, or add to them"

DEFINITIONS = {
    "prompt_achieved": (
        "Prompt tokens by the server's usage / prompt tokens wanted, of finished requests.",
        "share",
    ),
    "output_achieved": (
        "Output tokens by the server's usage / output tokens wanted, of finished requests.",
        "share",
    ),
    "tokens_per_event": (
        (
            "Output tokens / events that brought some: above 1 the server puts tokens together, and "
            "gaps inside an event count as 0."
        ),
        "tokens",
    ),
}


def lengths_block(calls: Seq[Call]) -> dict[str, Any]:
    """Wanted and achieved lengths, over the finished requests whose usage came."""
    told = [call for call in calls if call.outcome == FINISHED_OK and call.usage is not None]
    finished = sum(call.outcome == FINISHED_OK for call in calls)
    wanted_prompt = sum(call.request.prompt_tokens for call in told)
    wanted_output = sum(call.wanted_output for call in told)
    prompt = sum(call.usage.prompt_tokens for call in told if call.usage is not None)
    output = sum(call.output_tokens for call in told)
    events = sum(len(call.stamps) for call in told)
    return {
        "without_usage": finished - len(told),
        "wanted_prompt_tokens": wanted_prompt,
        "prompt_tokens": prompt,
        "prompt_achieved": _share(prompt, wanted_prompt),
        "wanted_output_tokens": wanted_output,
        "output_tokens": output,
        "output_achieved": _share(output, wanted_output),
        "output_as_wanted": sum(call.output_tokens == call.wanted_output for call in told),
        "tokens_per_event": _share(output, events),
    }


def remarks(lengths: dict[str, Any], *, words: bool) -> list[str]:
    """What a reader must know of the lengths, a sentence each; `words`: prompts are words, not ids."""
    said = []
    if lengths["without_usage"]:
        said.append(
            f"{lengths['without_usage']} finished requests came without usage: events were counted as "
            "tokens, and prompt lengths are those wanted."
        )
    for what, advice in (
        ("prompt", _WORDS_ADVICE if words else _IDS_ADVICE),
        ("output", "the server may ignore ignore_eos, or cap the context"),
    ):
        achieved = lengths[f"{what}_achieved"]
        if achieved is not None and abs(achieved - 1) > _TOLERATED:
            said.append(
                f"{what.capitalize()}s had {100 * achieved:.1f} % of the tokens wanted: {advice}."
            )
    return said


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None
