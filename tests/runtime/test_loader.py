"""A policy's file is its registration."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from headway.errors import OptionError, UnknownNameError
from headway.policies.batching.sarathi import Sarathi
from headway.runtime import load_policy, policy_names
from headway.runtime.loader import KINDS, METHOD, policy_class, policy_options

FUTURE = '''
"""A policy with annotations that are strings."""
from __future__ import annotations
from dataclasses import dataclass
from typing import ClassVar
from headway.core import Request

class Helper: ...

@dataclass
class Mine:
    needs: ClassVar[frozenset[str]] = frozenset()
    limit: int | None = 3
    def admit(self, request: Request, view: object) -> str | None:
        return None
'''


@pytest.mark.parametrize("kind", KINDS)
def test_every_shipped_policy_loads_with_its_defaults(kind: str) -> None:
    for name in policy_names(kind):
        assert callable(getattr(load_policy(kind, name), METHOD[kind]))
        options = policy_options(kind, name)
        made = load_policy(kind, name, {k: str(v) for k, v in options.items()})
        assert {option: getattr(made, option) for option in options} == options


def test_a_class_of_a_module_and_a_file_load_alike(tmp_path: Path) -> None:
    assert policy_class("batching", "headway.policies.batching.sarathi:Sarathi") is Sarathi
    file = tmp_path / "mine.py"
    file.write_text(FUTURE)
    before = set(sys.path)
    assert load_policy("admission", str(file), {"limit": "none"}).limit is None
    assert load_policy("admission", f"{file}:Mine", {"limit": "4"}).limit == 4
    assert set(sys.path) == before
    with pytest.raises(UnknownNameError, match="has no plan"):
        policy_class("batching", f"{file}:Mine")
    with pytest.raises(UnknownNameError, match=r"'Mien'.*Mine"):
        policy_class("admission", f"{file}:Mien")


def test_a_file_with_two_policies_of_a_kind_must_be_told_which(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(FUTURE + "\n\nclass Other(Mine): ...\n")
    with pytest.raises(UnknownNameError, match=r"2 admission policies: say .*:Mine or .*:Other"):
        load_policy("admission", str(file))
    assert type(load_policy("admission", f"{file}:Other")).__name__ == "Other"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("saratih", "did you mean sarathi"),
        ("nowhere.py", "no policy file"),
        ("no_such_package.mod:Class", "cannot import .*: give the path"),
        ("headway.core.request:Slo", "has no plan"),
    ],
)
def test_unknown_policies_are_refused_with_a_way_out(name: str, words: str) -> None:
    with pytest.raises(UnknownNameError, match=words):
        load_policy("batching", name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"token_budgte": 1}, "did you mean token_budget"),
        ({"token_budget": "many"}, "token_budget=many"),
    ],
)
def test_unknown_and_impossible_options_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises((UnknownNameError, OptionError), match=words):
        load_policy("batching", "sarathi", options)


def test_options_convert_from_strings_by_type() -> None:
    assert load_policy("batching", "splitfuse", {"saturation": "0.9"}).saturation == 0.9
    assert load_policy("routing", "two_choices", {"measure": "prompt_tokens"}).choices == 2
    with pytest.raises(OptionError, match="make its class a dataclass"):
        load_policy("ordering", f"{__file__}:Plain", {"x": 1})


class Plain:
    dynamic = False

    def key(self, sequence: object) -> tuple[float, ...]:
        return (0.0,)
