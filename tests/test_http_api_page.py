"""`docs/reference/http-api.md` leaves nothing out: every path, field and error code of the server is on it."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SERVER = ROOT / "src" / "headway" / "server"
PAGE = (ROOT / "docs" / "reference" / "http-api.md").read_text("utf-8")
TEXTS = " ".join(re.findall(r"`([^`\n]+)`", PAGE))
BODIES = ("GenerateBody", "CompletionBody", "ChatBody", "Message", "StreamOptions", "SloTargets")


def tree(name: str) -> ast.Module:
    return ast.parse((SERVER / name).read_text("utf-8"))


def paths() -> Iterator[str]:
    for node in ast.walk(tree("app.py")):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Route":
            yield ast.literal_eval(node.args[0]).replace(":path", "")


def fields() -> Iterator[str]:
    for node in tree("bodies.py").body:
        if isinstance(node, ast.ClassDef) and (
            node.name in BODIES or node.name.lower().endswith("tokenizebody")
        ):
            yield from (
                ast.unparse(item.target) for item in node.body if isinstance(item, ast.AnnAssign)
            )


def codes() -> Iterator[str]:
    """What is handed over as `code=`, to `invalid` as its third argument, or chosen by status."""
    for file in SERVER.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                third = node.args[2:3] if ast.unparse(node.func) == "invalid" else []
                named = [word.value for word in node.keywords if word.arg == "code"]
                for value in (*third, *named):
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        yield value.value


@pytest.mark.parametrize("found", [paths, fields, codes])
def test_the_page_names_all_there_is(found: Callable[[], Iterator[str]]) -> None:
    names = set(found())
    missing = {name for name in names if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", TEXTS)}
    assert len(names) > 5
    assert not missing
