"""Fill the tables between `<!-- generated: NAME -->` and `<!-- end -->` in docs/ from the source.

Everything is read, nothing is imported: a table is right even where an extra is missing.
With --check, change nothing and exit with 1 when a page is out of date.
"""

from __future__ import annotations

import ast
import difflib
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "headway"
BLOCK = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

Row = tuple[str, ...]


def table(heads: Row, rows: Iterable[Row]) -> str:
    """A Markdown table; one that has no rows yet is only its head."""
    cells = [heads, tuple("---" for _ in heads), *rows]
    lines = (" | ".join(cell.replace("|", "&#124;") for cell in row) for row in cells)
    return "".join(f"| {line} |\n" for line in lines)


def first_sentence(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> str:
    """The docstring's first paragraph up to its first full stop, on one line."""
    paragraph = (ast.get_docstring(node) or "").split("\n\n")[0]
    return re.split(r"(?<=\.)\s", " ".join(paragraph.split()))[0]


def parse(path: Path) -> ast.Module:
    """The module's tree."""
    return ast.parse(path.read_text("utf-8"), path.name)


def packages() -> str:
    """Each package and top-level module with the first sentence of its docstring."""
    files = [
        *((f"{file.parent.name}/", file) for file in SOURCE.glob("*/__init__.py")),
        *((file.name, file) for file in SOURCE.glob("*.py") if not file.name.startswith("__")),
    ]
    return table(
        ("package", "what it is"),
        ((f"`{name}`", first_sentence(parse(file))) for name, file in sorted(files)),
    )


def policy_of(tree: ast.Module, method: str) -> list[ast.ClassDef]:
    """The class with its kind's method, after those it inherits from; empty when the file has none."""
    imported = {
        alias.asname or alias.name: node.module or ""
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("headway.policies.")
        for alias in node.names
    }
    for item in tree.body:
        if not isinstance(item, ast.ClassDef):
            continue
        bases = [imported[b.id] for b in item.bases if isinstance(b, ast.Name) and b.id in imported]
        above = [
            each
            for module in bases
            for each in policy_of(parse(SOURCE.parent / f"{module.replace('.', '/')}.py"), method)
        ]
        own = any(isinstance(node, ast.FunctionDef) and node.name == method for node in item.body)
        if own or above:
            return [*above, item]
    return []


def options(tree: ast.Module, method: str) -> list[str]:
    """`name = default` of each option: the fields of the policy's dataclass, inherited ones first."""
    found: dict[str, str] = {}
    for item in policy_of(tree, method):
        if "dataclass" not in " ".join(map(ast.unparse, item.decorator_list)):
            continue
        for field in item.body:
            if not isinstance(field, ast.AnnAssign) or "ClassVar" in ast.unparse(field.annotation):
                continue
            default = "" if field.value is None else f" = {ast.unparse(field.value)}"
            if "init=False" not in default and isinstance(field.target, ast.Name):
                name = field.target.id
                found[name] = f"`{name}: {ast.unparse(field.annotation)}{default}`"
    return list(found.values())


def methods() -> dict[str, str]:
    """Kind -> the method its policies have, as the loader says."""
    for item in parse(SOURCE / "runtime" / "loader.py").body:
        if isinstance(item, ast.Assign) and ast.unparse(item.targets[0]) == "METHOD":
            return dict(ast.literal_eval(item.value))
    return {}


def source_of(tree: ast.Module) -> str:
    """The paragraph after `Source:` in a module's docstring."""
    found = re.search(
        r"^Source: (.*?)(?:\n\n|\n\w+: |\Z)",
        ast.get_docstring(tree) or "",
        re.MULTILINE | re.DOTALL,
    )
    return re.split(r"\sDiffers\b", " ".join(found[1].split()))[0] if found else ""


def without_title(sentence: str, stem: str) -> str:
    """`Round robin: each in turn.` -> `Each in turn.` for round_robin.py: the name has its own column."""
    title, _, rest = sentence.partition(": ")
    same = title.lower().replace(" ", "_") == stem
    return rest[0].upper() + rest[1:] if same and rest else sentence


def policies() -> str:
    """Each policy file: kind, name, first sentence, options, source."""
    method = methods()
    rows = [
        (
            file.parent.name,
            f"`{file.stem}`",
            without_title(first_sentence(tree := parse(file)), file.stem),
            "<br>".join(options(tree, method[file.parent.name])),
            source_of(tree),
        )
        for file in sorted(SOURCE.glob("policies/*/*.py"))
        if not file.stem.startswith("_")
    ]
    return table(("kind", "policy", "what it does", "options", "source"), rows)


def metrics() -> str:
    """Each entry of the `DEFINITIONS` that stand beside the code which computes them."""
    found: dict[str, tuple[str, str]] = {}
    first = ("targets", "latency", "gaps", "summary")  # what people look for first
    files = {file.stem: file for file in sorted(SOURCE.glob("metrics/*.py"))}
    for file in (files[stem] for stem in dict.fromkeys((*first, *files))):
        for item in parse(file).body:
            if isinstance(item, ast.Assign) and ast.unparse(item.targets[0]) == "DEFINITIONS":
                found |= ast.literal_eval(item.value)
    rows = ((f"`{name}`", unit, words) for name, (words, unit) in found.items())
    return table(("metric", "unit", "definition"), rows)


# What a key counts in, by its ending -> (factor to the unit shown, unit).
UNITS = {"bytes_per_s": (1e-9, "GB/s"), "bytes": (1e-9, "GB"), "flops": (1e-12, "TFLOP/s")}


def cells(sheet: dict[str, object]) -> Iterator[tuple[str, str]]:
    """(key, value as it is shown) of a sheet; nested tables as `table.key`, lists left out."""
    for key, value in sheet.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{inner}", with_unit(key, item)) for inner, item in value.items())
        elif not isinstance(value, list):
            yield key, with_unit(key, value)


def with_unit(key: str, value: object) -> str:
    """A quantity in four digits and its unit; anything else as it is."""
    factor, unit = next((UNITS[end] for end in UNITS if key.endswith(end)), (0.0, ""))
    if factor and isinstance(value, int | float):
        return f"{float(f'{value * factor:.4g}'):g} {unit}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def sheets(pattern: str) -> str:
    """The keys that most sheets have, one sheet a row."""
    files = sorted(SOURCE.glob(pattern))
    read = {file.stem: dict(cells(tomllib.loads(file.read_text("utf-8")))) for file in files}
    uses = Counter(key for sheet in read.values() for key in sheet)
    keys = [key for key, count in uses.items() if 2 * count > len(read)]
    rows = ((f"`{name}`", *(sheet.get(key, "–") for key in keys)) for name, sheet in read.items())
    return table(("name", *keys), rows)


TABLES: dict[str, Callable[[], str]] = {
    "packages": packages,
    "policies": policies,
    "metrics": metrics,
    "devices": lambda: sheets("timing/devices/*.toml"),
    "models": lambda: sheets("timing/models/*.toml"),
}


def filled(page: str) -> str:
    """The page with every generated table renewed."""
    return BLOCK.sub(lambda block: f"{block[1]}\n{TABLES[block[2]]()}\n{block[3]}", page)


def outdated() -> dict[Path, tuple[str, str]]:
    """Page -> (as it is, as it should be), of those that differ."""
    pages = {path: path.read_text("utf-8") for path in sorted((ROOT / "docs").rglob("*.md"))}
    new = {path: filled(page) for path, page in pages.items()}
    return {path: (page, new[path]) for path, page in pages.items() if page != new[path]}


def main() -> int:
    """Rewrite the pages, or say which ones a rewrite would change."""
    check = "--check" in sys.argv[1:]
    changed = outdated()
    for path, (old, new) in changed.items():
        if check:
            name = path.relative_to(ROOT).as_posix()
            diff = difflib.unified_diff(
                old.splitlines(), new.splitlines(), name, name, lineterm="", n=0
            )
            print("\n".join(diff))
        else:
            path.write_text(new, "utf-8")
            print(f"rewrote {path.relative_to(ROOT)}")
    if check and changed:
        print("generated tables are out of date: run scripts/docs", file=sys.stderr)
    return int(check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
