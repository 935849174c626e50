"""Quantities as people write them: 1k, 2.5M, 60ms, 1.5s, 90%."""

from __future__ import annotations

import re

from headway.core import NS_PER_MS, NS_PER_S
from headway.errors import OptionError

_SCALES = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000, "b": 1_000_000_000}
_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": NS_PER_MS,
    "s": NS_PER_S,
    "min": 60 * NS_PER_S,
    "h": 3600 * NS_PER_S,
}
_QUANTITY = re.compile(
    r"\s*([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([a-zµμ%]*)\s*", re.IGNORECASE
)


def number(what: str, value: str | float) -> float:
    """Read a number; k, M and G mean thousands, millions and billions. `what` is what errors call it.

    Raises:
        OptionError: no number.
    """
    if not isinstance(value, str):
        return float(value)
    amount, unit = _split(what, value, "a number such as 5.5, 200 or 1k")
    scale = _SCALES.get(unit.lower())
    if scale is None:
        raise OptionError(f"{what}={value}: give a number such as 5.5, 200 or 1k (1k = 1000)")
    return amount * scale


def positive(what: str, value: str | float) -> float:
    """Read a number above 0."""
    read = number(what, value)
    if not 0 < read < float("inf"):
        raise OptionError(f"{what} is {value}: give a number above 0")
    return read


def count(what: str, value: str | float, least: int = 1) -> int:
    """Read a whole number of at least `least`."""
    read = number(what, value)
    if read != int(read) or read < least:
        raise OptionError(f"{what} is {value}: give a whole number, {least} or more")
    return int(read)


def duration_ns(what: str, value: str) -> int:
    """Read a time with its unit, in whole nanoseconds.

    Raises:
        OptionError: no time above 0, or no unit.
    """
    expected = "a time with its unit, such as 200ms, 1.5s or 2min"
    amount, unit = _split(what, value, expected)
    scale = _UNITS_NS.get(unit.lower())
    if scale is None or amount <= 0:
        raise OptionError(f"{what}={value}: give {expected}")
    return round(amount * scale)


def share(what: str, value: str | float) -> float:
    """Read a share between 0 and 1, written 0.01 or 1%.

    Raises:
        OptionError: no share.
    """
    expected = "a share such as 0.9 or 90%"
    amount, unit = _split(what, str(value), expected)
    if unit not in ("", "%"):
        raise OptionError(f"{what}={value}: give {expected}")
    read = amount / 100 if unit else amount
    if not 0 <= read <= 1:
        raise OptionError(f"{what}={value}: give {expected}, from 0 to 1")
    return read


def _split(what: str, value: str, expected: str) -> tuple[float, str]:
    found = _QUANTITY.fullmatch(value)
    if found is None:
        raise OptionError(f"{what}={value}: give {expected}")
    return float(found[1].replace("_", "")), found[2]
