"""The layers, the purity and the sizes that `docs/architecture.md` promises, read off the source by `ast`."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "headway"

# A room may import the rows above its own. `__init__` is the package itself: it exports lazily.
ROWS = (
    ("core", "errors"),
    ("policies", "workload", "timing", "metrics", "checkpoint", "records"),
    ("runtime",),
    ("clocks", "sim", "engine", "remote"),
    ("worlds",),
    ("host", "testing", "report", "server", "loadgen", "planner"),
    ("api", "demo", "reproductions"),
    ("cli", "__init__", "__main__"),
)
ROW = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
NEIGHBOURS = {
    ("core", "errors"),
    ("demo", "api"),
    ("reproductions", "api"),
    ("__main__", "cli"),
    ("cli", "__init__"),
}
NEIGHBOURS |= {(program, "report") for program in ("loadgen", "planner")}
NEIGHBOURS |= {(program, "host") for program in ("server", "planner")}
ONLY = {"loadgen": {"core", "errors", "workload", "metrics", "report"}}  # measures anyone's server
POLICY_LOADER = "runtime/loader.py"  # the one file of runtime that knows where policies live

TORCH_ROOMS = {"engine", "host", "testing"}
PURE_ROOMS = {"core", "policies", "runtime", "timing", "metrics"}
CLOCKS = {"time", "datetime", "asyncio", "threading", "multiprocessing", "concurrent", "sched"}
AMBIENT = {"random": {"Random"}, "os": {"PathLike", "fspath"}}  # module -> what is pure in it
LAZY_ROOMS = {"cli", "__init__"}
VAGUE = {"utils", "util", "common", "helpers", "helper", "base", "manager", "misc"}

MOST_FILE_LINES, MOST_FUNCTION_LINES = 400, 60
LONG: dict[str, str] = {
    # "runtime/view.py" or "runtime/view.py::View.take": "2026-11-21: why it is one idea all the same"
}


def room_of(path: str) -> str:
    """`runtime/view.py` -> runtime, `errors.py` -> errors."""
    return path.partition("/")[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """(line, module, imported name or "") of every import; relative ones as `.module`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, module, alias.name) for alias in node.names)


def functions(tree: ast.AST, outer: str = "") -> Iterator[tuple[str, ast.AST, int]]:
    """(qualified name, node, lines) of every function; a decorator does not count."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{outer}{node.name}"
            if not isinstance(node, ast.ClassDef):
                yield name, node, (node.end_lineno or node.lineno) - node.lineno + 1
            yield from functions(node, f"{name}.")
        else:
            yield from functions(node, outer)


def first_party(module: str, name: str) -> str | None:
    """The room that an import reaches; None for third parties."""
    parts = [*module.split("."), name]
    if parts[0] != "headway":
        return None
    return parts[1] if parts[1] in ROW or len(parts) > 2 else "__init__"


def broken_layers(path: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    room = room_of(path)
    if room not in ROW:
        yield 1, f"room {room!r} has no row in ROWS of tests/test_layers.py: give it one"
        return
    for line, module, name in imports(tree):
        if module.startswith("."):
            yield line, "relative import: write the whole name, so that layers can be read"
        target = first_party(module, name)
        if room == "core" and not target and module.split(".")[0] not in sys.stdlib_module_names:
            yield line, f"core imports {module}: it may import the standard library only"
        if target is None or target == room:
            continue
        above = target in ROW and ROW[target] < ROW[room]
        if not (above or (room, target) in NEIGHBOURS) or target not in ONLY.get(room, {target}):
            yield line, f"{room} imports {target}: not a layer below it (docs/architecture.md)"
        if (room, target) == ("runtime", "policies") and path != POLICY_LOADER:
            yield line, f"runtime imports policies: only {POLICY_LOADER} may"


def impurities(path: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    room = room_of(path)
    for line, module, name in imports(tree):
        top = module.split(".")[0]
        if top == "torch" and room not in TORCH_ROOMS:
            yield line, f"{room} imports torch: only {', '.join(sorted(TORCH_ROOMS))} may"
        if room in PURE_ROOMS and top in CLOCKS:
            yield line, f"{room} imports {top}: time and threads are handed in, never fetched"
        if room in PURE_ROOMS and name and name not in AMBIENT.get(top, {name}):
            yield line, f"{room} imports {top}.{name}: state of the process is handed in"
    for node in ast.walk(tree):
        if room in PURE_ROOMS and isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if node.attr not in AMBIENT.get(owner, {node.attr}):
                yield (
                    node.lineno,
                    f"{room} uses {owner}.{node.attr}: state of the process is handed in",
                )


def lazy_imports(path: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    if room_of(path) in LAZY_ROOMS:
        return
    for function, node, _ in functions(tree):
        for line, module, name in imports(node):
            if first_party(module, name):
                yield line, f"{function} imports {module}: first-party imports stand at the top"


def oversize(path: str, tree: ast.AST, lines: int) -> Iterator[tuple[int, str]]:
    if lines > MOST_FILE_LINES and path not in LONG:
        yield 1, f"{lines} lines, at most {MOST_FILE_LINES}: split it by idea, or list it in LONG"
    for name, node, length in functions(tree):
        if length > MOST_FUNCTION_LINES and f"{path}::{name}" not in LONG:
            line = getattr(node, "lineno", 1)
            yield line, f"{name} has {length} lines, at most {MOST_FUNCTION_LINES}: split it"


def vague_names(path: str) -> Iterator[tuple[int, str]]:
    for part in Path(path).with_suffix("").parts:
        if VAGUE & set(part.split("_")):
            yield 1, f"{part!r} says nothing: name the module after its one idea"


def broken_rules(path: str, source: str) -> list[str]:
    """`file:line: rule` of everything wrong with one file below src/headway."""
    tree = ast.parse(source)
    found = [*broken_layers(path, tree), *impurities(path, tree), *lazy_imports(path, tree)]
    found += [*oversize(path, tree, source.count("\n")), *vague_names(path)]
    return [f"src/headway/{path}:{line}: {rule}" for line, rule in sorted(set(found))]


def test_source_keeps_the_layers() -> None:
    found = [
        rule
        for file in sorted(SOURCE.rglob("*.py"))
        for rule in broken_rules(file.relative_to(SOURCE).as_posix(), file.read_text("utf-8"))
    ]
    assert not found, "\n" + "\n".join(found)


def test_every_exception_is_dated_and_still_needed() -> None:
    for entry, reason in LONG.items():
        path, _, function = entry.partition("::")
        source = (SOURCE / path).read_text("utf-8")
        sizes = {name: length for name, _, length in functions(ast.parse(source))}
        size, most = (
            (sizes.get(function, 0), MOST_FUNCTION_LINES)
            if function
            else (source.count("\n"), MOST_FILE_LINES)
        )
        assert size > most, f"{entry} is short enough now: take it out of LONG"
        assert reason[:2] == "20", f"{entry}: begin the reason with a date, YYYY-MM-DD"
        assert reason[10:12] == ": ", f"{entry}: begin the reason with a date, YYYY-MM-DD"


@pytest.mark.parametrize(
    ("path", "source", "rule"),
    [
        ("core/plan.py", "import numpy", "standard library only"),
        ("core/plan.py", "from headway import metrics", "core imports metrics"),
        (
            "policies/batching/a.py",
            "from headway.timing.roofline import x",
            "policies imports timing",
        ),
        ("policies/batching/a.py", "from time import monotonic", "policies imports time"),
        ("policies/routing/a.py", "import random\nrandom.random()", "uses random.random"),
        ("policies/routing/a.py", "from random import choice", "imports random.choice"),
        ("timing/a.py", "import os\nos.environ['A']", "uses os.environ"),
        (
            "runtime/instance.py",
            "from headway.policies import batching",
            "only runtime/loader.py may",
        ),
        ("runtime/a.py", "from headway.sim.timed import Timed", "runtime imports sim"),
        ("sim/a.py", "import headway.engine.executor", "sim imports engine"),
        ("sim/a.py", "import torch.nn", "sim imports torch"),
        ("sim/a.py", "from .timed import Timed", "relative import"),
        ("sim/a.py", "def f():\n    from headway.core import Slo", "f imports headway.core"),
        ("loadgen/a.py", "from headway.sim.timed import Timed", "loadgen imports sim"),
        ("new_room/a.py", "", "no row"),
        ("sim/a.py", "x = 1\n" * 401, "401 lines"),
        ("sim/a.py", "class A:\n  def f():\n" + "    1\n" * 60, "A.f has 61 lines"),
        ("sim/plan_utils.py", "", "says nothing"),
    ],
)
def test_a_broken_rule_is_named_with_its_line(path: str, source: str, rule: str) -> None:
    found = broken_rules(path, source)
    assert len(found) == 1, found
    assert rule in found[0]
    assert found[0].startswith(f"src/headway/{path}:")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("policies/routing/a.py", "from random import Random\nimport numpy"),
        ("runtime/a.py", "import random\nrandom.Random(1)"),
        ("runtime/loader.py", "from headway import policies"),
        ("engine/a.py", "import time\nimport torch\nfrom headway.runtime.view import View"),
        ("cli/a.py", "def f():\n    from headway.engine import executor"),
    ],
)
def test_what_the_rules_allow_passes(path: str, source: str) -> None:
    assert not broken_rules(path, source)
