"""From what a user chose to policies that can be made: a name, a class, a factory or an object."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from headway.errors import HeadwayError, OptionError, UnknownNameError
from headway.runtime import load_policy
from headway.runtime.loader import KINDS, METHOD


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """A policy that was chosen: what it is called, how one is made, and one that was made to look at."""

    kind: str
    label: str
    make: Callable[[], Any]
    sample: Any

    @property
    def options(self) -> dict[str, object]:
        """Every option with its resolved value, ready for JSON."""
        if not dataclasses.is_dataclass(self.sample):
            return {}
        values = {
            item.name: getattr(self.sample, item.name)
            for item in dataclasses.fields(self.sample)
            if item.init
        }
        plain = (str, int, float, bool, type(None))
        return {
            name: value if isinstance(value, plain) else repr(value)
            for name, value in values.items()
        }


def choose(kind: str, chosen: object, options: Mapping[str, Any]) -> Choice:
    """Resolve one choice with its options (option -> value), making one to see that it works.

    Raises:
        UnknownNameError: no such policy or option.
        OptionError: a bad value, or a policy that cannot be made.
    """
    make: Callable[[], Any]
    if isinstance(chosen, str):
        label, make = label_of(chosen), partial(load_policy, kind, chosen, dict(options))
    elif inspect.isclass(chosen):
        label, make = _path(chosen), partial(_make_class, chosen, dict(options))
    elif options:
        raise OptionError(
            f"{', '.join(options)} cannot be set on the {kind} policy {_path(type(chosen))}: "
            "it is made already, set them there"
        )
    elif hasattr(chosen, METHOD[kind]):
        label, make = _path(type(chosen)), partial(copy.deepcopy, chosen)
    elif callable(chosen):
        label, make = _path(chosen), chosen
    else:
        raise OptionError(
            f"{chosen!r} is no {kind} policy: give a name, a class, a factory or an object"
        )
    try:
        sample = make()
    except HeadwayError:
        raise
    except Exception as error:  # somebody's code: whatever it raises, the user wants to know where
        raise OptionError(
            f"the {kind} policy {label} cannot be made: {type(error).__name__}: {error}"
        ) from error
    if not hasattr(sample, METHOD[kind]):
        raise OptionError(f"{label} is no {kind} policy: it has no {METHOD[kind]}()")
    if kind == "control" and not hasattr(sample, "period_ns"):
        raise OptionError(f"{label} is no control policy: give it period_ns, how often to ask it")
    return Choice(kind, label, make, sample)


def label_of(name: str) -> str:
    """What a name, `pkg.mod:Class` or file is called in tables."""
    where, _, wanted = name.partition(":")
    return wanted or Path(where).stem if where.endswith(".py") else wanted or name


def options_by_kind(
    options: Mapping[str, Any], chosen: Mapping[str, str], *, strict: bool = True
) -> dict[str, dict[str, Any]]:
    """Sort `batching.token_budget` or `sarathi.token_budget` by kind; `chosen` is kind -> label.

    Raises:
        OptionError: no dot in a key.
        UnknownNameError: neither a kind nor a chosen policy before the dot (unless not `strict`).
    """
    sorted_out: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    kinds = {label: kind for kind, label in chosen.items()} | {kind: kind for kind in KINDS}
    for key, value in options.items():
        owner, dot, option = key.rpartition(".")
        if not dot or not owner or not option:
            raise OptionError(
                f"option {key!r}: write policy.option=value, such as batching.token_budget=1024"
            )
        if owner in kinds:
            sorted_out[kinds[owner]][option] = value
        elif strict:
            raise UnknownNameError.among("policy kind or chosen policy", owner, kinds)
    return sorted_out


def parse_settings(texts: Iterable[str]) -> dict[str, str]:
    """Read `policy.option=value` texts.

    Raises:
        OptionError: no `=`, or nothing before it.
    """
    settings = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or "." not in key.strip(". "):
            raise OptionError(
                f"setting {text!r}: write policy.option=value, such as batching.token_budget=1024"
            )
        settings[key.strip()] = value.strip()
    return settings


def _make_class(cls: type, options: Mapping[str, Any]) -> object:
    known = (
        [item.name for item in dataclasses.fields(cls) if item.init]
        if dataclasses.is_dataclass(cls)
        else []
    )
    for name in options:
        if name not in known:
            raise UnknownNameError.among(f"option of {cls.__name__}", name, known)
    return cls(**options)


def _path(thing: object) -> str:
    return str(getattr(thing, "__qualname__", None) or type(thing).__qualname__).rpartition(".")[2]
