"""Every example runs as its docstring says, and the README shows what its commands print."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PLAIN = [file for file in sorted((ROOT / "examples").glob("*.py")) if "polic" not in file.name]


@pytest.mark.slow
@pytest.mark.parametrize("example", PLAIN, ids=lambda file: file.name)
def test_example_runs(example: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(example)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.fixture
def documented() -> ModuleType:
    spec = importlib.util.spec_from_file_location("_", ROOT / "bench" / "documented_output.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_readme_shows_what_simulations_print(documented: ModuleType) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    blocks = [b for b in documented.BLOCK.finditer(readme) if b[1].startswith("headway ")]
    assert blocks
    for block in blocks:  # what runs on a real model differs from run to run
        assert documented.renewed(block) == block[0], "run python bench/documented_output.py"


def test_a_cut_block_keeps_its_number_of_lines(documented: ModuleType) -> None:
    page = "```console\n$ printf '1\\n2\\n3\\n'\nold\nolder\n...\n```\n"
    assert documented.BLOCK.sub(documented.renewed, page) == (
        "```console\n$ printf '1\\n2\\n3\\n'\n1\n2\n...\n```\n"
    )


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 150
