"""A policy's file is its registration: `sarathi` is `policies/batching/sarathi.py`, `pkg.mod:Class` anybody's.

The one class a policy file defines is the policy; its dataclass fields are its options.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headway.errors import OptionError, UnknownNameError

KINDS = ("batching", "ordering", "memory", "speculation", "routing", "admission", "control")
METHOD = {
    "batching": "plan",
    "ordering": "key",
    "memory": "victims",
    "speculation": "drafts",
    "routing": "route",
    "admission": "admit",
    "control": "tick",
}
_FOLDER = Path(__file__).parents[1] / "policies"


def policy_names(kind: str) -> list[str]:
    """Names of the shipped policies of a kind."""
    return sorted(file.stem for file in (_FOLDER / kind).glob("*.py") if file.stem != "__init__")


def policy_class(kind: str, name: str) -> type:
    """The class behind a shipped name, `pkg.mod:Class`, or `path/to/file.py[:Class]`.

    Raises:
        UnknownNameError: nothing of that name; lists the nearest.
    """
    where, _, wanted = name.partition(":")
    if where.endswith(".py"):
        module = _from_file(Path(where))
    elif wanted:
        try:
            module = importlib.import_module(where)
        except ImportError as error:
            raise UnknownNameError(
                f"{kind} policy {name!r}: cannot import {where}: {error}: give the path of its .py file,"
                " or put its folder on PYTHONPATH"
            ) from error
    elif name in policy_names(kind):
        module = importlib.import_module(f"headway.policies.{kind}.{name}")
    else:
        raise UnknownNameError.among(f"{kind} policy", name, policy_names(kind))
    classes = {
        key: value
        for key, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__
    }
    if wanted and wanted not in classes:
        raise UnknownNameError.among(f"class in {where}", wanted, classes)
    found = (
        [classes[wanted]] if wanted else [c for c in classes.values() if hasattr(c, METHOD[kind])]
    )
    if not found or not hasattr(found[0], METHOD[kind]):
        raise UnknownNameError(f"{name!r} is no {kind} policy: it has no {METHOD[kind]}()")
    if len(found) > 1:
        which = " or ".join(f"{where}:{each.__name__}" for each in found)
        raise UnknownNameError(f"{name!r} has {len(found)} {kind} policies: say {which}")
    return found[0]


def load_policy(kind: str, name: str, options: Mapping[str, Any] | None = None) -> Any:
    """Make a policy with its options; values may be strings, as they come from a command line.

    Raises:
        UnknownNameError: no such policy or option.
        OptionError: a value of the wrong type.
    """
    policy = policy_class(kind, name)
    if not dataclasses.is_dataclass(policy):
        if options:
            raise OptionError(
                f"{name} has no options: make its class a dataclass, or drop {', '.join(options)}"
            )
        return policy()
    fields = {field.name: field for field in dataclasses.fields(policy) if field.init}
    hints = typing.get_type_hints(policy)
    values = {}
    for key, value in (options or {}).items():
        if key not in fields:
            raise UnknownNameError.among(f"option of {name}", key, fields)
        values[key] = _convert(f"{name}.{key}", value, hints[key])
    return policy(**values)


def policy_options(kind: str, name: str) -> dict[str, object]:
    """Option -> default, in the order of the class."""
    policy = policy_class(kind, name)
    if not dataclasses.is_dataclass(policy):
        return {}
    return {field.name: field.default for field in dataclasses.fields(policy) if field.init}


def _from_file(path: Path) -> types.ModuleType:
    if not path.is_file():
        raise UnknownNameError(
            f"no policy file {str(path)!r}: give an existing .py file or a shipped name"
        )
    name = f"headway_policy_file.{path.resolve()}"  # apart from every importable module
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UnknownNameError(f"cannot load {str(path)!r} as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their annotations there
    spec.loader.exec_module(module)
    return module


def _convert(name: str, value: Any, hint: Any) -> Any:
    if not isinstance(value, str):
        return value
    kinds = [kind for kind in typing.get_args(hint) or (hint,) if kind is not type(None)]
    if value.lower() in ("none", "") and type(None) in typing.get_args(hint):
        return None
    if bool in kinds:
        if value.lower() in ("true", "false", "1", "0", "yes", "no"):
            return value.lower() in ("true", "1", "yes")
        raise OptionError(f"{name}={value}: use true or false")
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(value)
            except ValueError:
                continue
    if str in kinds:
        return value
    wanted = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
    raise OptionError(f"{name}={value}: not a value of type {wanted}")
