"""The claims, as they were registered before anything was tried (`claims.toml`)."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

import msgspec

from headway.errors import UnknownNameError

_FILE = Path(__file__).with_name("claims.toml")


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a paper says of its system. `paper_gain` is a ratio above 1 in the better direction."""

    section: str
    claim: str
    metric: str
    paper_gain: float
    baseline: str
    setup: str
    null: str
    paper_low: float | None = None  # lower end where the paper gives a range
    also: dict[str, float] = {}


@cache
def claims() -> dict[str, Claim]:
    """All claims by the name of the system."""
    return msgspec.convert(tomllib.loads(_FILE.read_text("utf-8")), dict[str, Claim])


def claim_of(name: str) -> Claim:
    """One claim.

    Raises:
        UnknownNameError: nobody claimed that; lists the nearest.
    """
    known = claims()
    if name not in known:
        raise UnknownNameError.among("claim", name, known)
    return known[name]
