"""The documentation says only what is so: names exist, tables are fresh, tutorials run."""

import ast
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

import generate_docs
from headway.runtime.loader import KINDS, policy_names, policy_options

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "headway"
# Decisions and lab notes are dated records: they may name what has gone since.
RECORDS = {"decisions", "lab-notes"}
PAGES = [
    page
    for page in (
        *sorted((ROOT / "docs").rglob("*.md")),
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
    )
    if page.exists() and page.parent.name not in RECORDS
]

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
FILE = re.compile(
    r"[\w.*-]*[\w*](?:/[\w.*-]+)*\.(?:py|md|toml|txt|yaml)|[\w.-]+(?:/[\w.-]+)*/|scripts/\w+"
)
DOTTED = re.compile(r"headway(?:\.\w+)+")


def targets(node: ast.AST) -> list[str]:
    """Names and attributes that an assignment sets."""
    match node:
        case ast.Assign():
            set_here = [item for target in node.targets for item in ast.walk(target)]
        case ast.AnnAssign():
            set_here = [node.target]
        case _:
            set_here = []
    names = [item.id for item in set_here if isinstance(item, ast.Name)]
    return names + [item.attr for item in set_here if isinstance(item, ast.Attribute)]


def members(tree: ast.AST) -> dict[str, ast.AST]:
    """What a module or class defines, assigns or imports, by name; attributes set in `__init__` too."""
    found: dict[str, ast.AST] = {}
    for node in getattr(tree, "body", []):
        found |= dict.fromkeys(targets(node), node)
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found[node.name] = node
                if node.name == "__init__":
                    found |= {name: item for item in ast.walk(node) for name in targets(item)}
            case ast.Import() | ast.ImportFrom():
                found |= {(alias.asname or alias.name): node for alias in node.names}
            case ast.If():  # TYPE_CHECKING
                found |= members(node)
    return found


def has_member(file: Path, name: str) -> bool:
    node: ast.AST = ast.parse(file.read_text("utf-8"))
    for part in name.split("."):
        known = members(node)
        if part not in known:
            return isinstance(node, ast.ImportFrom)  # defined elsewhere: not followed
        node = known[part]
    return True


def files_named(name: str) -> list[Path]:
    """Files or folders below the checkout or the package; KIND, NAME and `*` are wildcards."""
    pattern = re.sub(r"\b(KIND|NAME)\b", "*", name.rstrip("/"))
    return [path for base in (ROOT, SOURCE) for path in base.glob(pattern)]


def dotted_exists(name: str) -> bool:
    """Does `headway.runtime.view.View` name a module, or something in one?"""
    at, parts = SOURCE, name.split(".")[1:]
    while parts and (at / parts[0]).is_dir():
        at /= parts.pop(0)
    if not parts:
        return True
    if (at / f"{parts[0]}.py").exists():
        at /= f"{parts.pop(0)}.py"
    else:
        at /= "__init__.py"
    return not parts or (at.exists() and has_member(at, ".".join(parts)))


def unknown_names(page: str) -> Iterator[str]:
    for code in CODE.findall(FENCE.sub("", page)):
        file, _, member = code.partition("::")
        if FILE.fullmatch(file):
            found = files_named(file)
            if not found:
                yield f"`{code}`: no such file in the checkout or in src/headway"
            elif member and not any(has_member(path, member.rstrip("()")) for path in found):
                yield f"`{code}`: the file has no {member}"
        elif DOTTED.fullmatch(code) and not dotted_exists(code):
            yield f"`{code}`: no such module or member"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_names_in_backticks_exist(page: Path) -> None:
    assert not list(unknown_names(page.read_text("utf-8")))


@pytest.mark.parametrize(
    "page",
    [
        "`core/nowhere.py`",
        "`core/request.py::Request.nothing`",
        "`core/request.py::Nobody`",
        "`headway.core.nowhere.X`",
        "`headway.core.request.Nobody`",
        "`policies/batching/no_such_*.py`",
        "`scripts/nothing`",
        "`no_room/`",
    ],
)
def test_a_name_that_does_not_exist_is_found(page: str) -> None:
    assert len(list(unknown_names(page))) == 1


@pytest.mark.parametrize(
    "page",
    [
        "`core/request.py`, `src/headway/core/`, `tests/test_docs.py`, `scripts/check`",
        "`core/request.py::Request.due_ns` and `core/request.py::Request.arrival_ns`",
        "`core/sequence.py::Sequence.lane` is set in `__init__`",
        "`headway.core.request.Slo`, `headway.core.Slo`, `headway.errors`",
        "`pkg.mod:Class`, `ttft=300ms,tpot=40ms`, `a/b`, `view.take`",
        "```\n`core/nowhere.py`\n```\n",
    ],
)
def test_names_that_exist_and_other_code_pass(page: str) -> None:
    assert not list(unknown_names(page))


def test_generated_tables_are_up_to_date() -> None:
    stale = [path.relative_to(ROOT).as_posix() for path in generate_docs.outdated()]
    assert not stale, "run scripts/docs"


def test_the_table_of_policies_lists_the_options_they_take() -> None:
    page = (ROOT / "docs" / "reference" / "policies.md").read_text("utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    told = {(row[0][2:], row[1].strip("`")): re.findall(r"`(\w+): ", row[3]) for row in rows[2:]}
    known = {
        (kind, name): list(policy_options(kind, name))
        for kind in KINDS
        for name in policy_names(kind)
    }
    assert told == known


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", FENCE.sub("", page.read_text("utf-8")))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not broken


def runnable_blocks() -> Iterator[tuple[str, str]]:
    for page in sorted((ROOT / "docs" / "tutorial").glob("*.md")):
        blocks = [code for kind, code in FENCE.findall(page.read_text("utf-8")) if kind == "python"]
        for number, code in enumerate(blocks, 1):
            if code.startswith("# run"):
                yield f"{page.name}-{number}", code


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [pytest.param(*b, id=b[0]) for b in runnable_blocks()])
def test_tutorial_blocks_run(
    name: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / f"{name}.py"
    script.write_text(code, "utf-8")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script), run_name="__main__")
