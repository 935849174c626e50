"""Sizes of memory as people write them: 1GiB, 512MiB, 2GB."""

import re

from headway.errors import OptionError

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def byte_count(what: str, text: str) -> int:
    """Read a size; KiB counts in 1024s, kB in 1000s.

    Raises:
        OptionError: no size above 0.
    """
    found = _SIZE.fullmatch(text)
    if found is None or not float(found[1]):
        raise OptionError(f"{what} is {text}: give a size such as 512MiB or 2GiB")
    amount, power = float(found[1]), _POWER[found[2].lower()]
    return int(amount * (1024 if found[3] else 1000) ** power)
