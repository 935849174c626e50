"""A policy as a test names it: a class, any maker of one, a shipped name, `pkg.mod:Class` or a file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from os import PathLike, fspath
from typing import Any

from headway.runtime.loader import load_policy

PolicyRef = str | PathLike[str] | Callable[[], Any]


def maker(kind: str, policy: PolicyRef) -> Callable[[], Any]:
    """Return a maker of fresh policy objects.

    Raises:
        UnknownNameError: no policy of that name, or no such file (when called).
    """
    if isinstance(policy, str | PathLike):
        return partial(load_policy, kind, fspath(policy))
    return policy
