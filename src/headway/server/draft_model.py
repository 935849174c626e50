"""The model that drafts for the one that is served: found, and refused where it cannot."""

from __future__ import annotations

from typing import NamedTuple

from headway.checkpoint.checkpoint import Checkpoint, vocabulary_of
from headway.checkpoint.locate import locate
from headway.checkpoint.model_facts import ModelFacts
from headway.checkpoint.tokenizer import Tokenizer
from headway.errors import OptionError
from headway.host.spec import LIVE
from headway.server.serve_options import ServeOptions

LOOKED_AT = 1000  # tokens that are compared
STRANGE = 0.1  # a share of them that may differ: two files of one model may spell a few apart


class DraftModel(NamedTuple):
    """Where it is, as a host wants to be told. `facts` are missing in the simulated world."""

    name: str
    path: str
    facts: ModelFacts | None = None


def find_draft(options: ServeOptions, checkpoint: Checkpoint) -> DraftModel | None:
    """Find what drafts for the model of `checkpoint`; None when nobody was asked for. May download.

    Raises:
        HeadwayError: there is no such model, it has another vocabulary, or nothing would be drafted.
    """
    model = options.draft_model
    if not model:
        return None
    if options.speculation == "none":
        raise OptionError(
            f"--draft-model {model} would draft nothing with --speculation none: give fixed or smartspec"
        )
    if options.world != LIVE:
        if options.profile:
            raise OptionError(
                f"--draft-model {model} has no price beside the measured times of --profile:"
                " leave out one of them"
            )
        return DraftModel(model, model)
    located = locate(None if model == "embedded" else model)
    facts, tokenizer = vocabulary_of(located)
    why = _differ(facts.vocabulary, checkpoint.vocabulary) or _spell_apart(
        tokenizer, checkpoint.tokenizer
    )
    if why:
        raise OptionError(
            f"--draft-model {model} cannot draft for {checkpoint.name}, {why}: choose one with the same"
            " vocabulary"
        )
    # Not resolved: behind the links of a hub's cache the files have no suffix.
    path = model if model == "embedded" else str(located.paths[0].absolute())
    return DraftModel(located.name, path, facts)


def _differ(own: int, other: int) -> str:
    return "" if own == other else f"it has {own} tokens and not {other}"


def _spell_apart(own: Tokenizer, other: Tokenizer) -> str:
    """Look at tokens here and there; vocabularies of one size may still be of two families."""
    size = min(own.size, other.size)
    looked = range(0, size, max(1, size // LOOKED_AT))
    apart = [token for token in looked if own.token_bytes(token) != other.token_bytes(token)]
    if len(apart) <= STRANGE * len(looked):
        return ""
    mine, theirs = own.token_text(apart[0]), other.token_text(apart[0])
    return f"token {apart[0]} is {mine!r} there and {theirs!r} here"
