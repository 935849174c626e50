"""Run again every command whose output README and docs/ show, and put the new output in its place.

Usage: python bench/documented_output.py [--check] [PAGE ...]
A block that begins with three backticks and `console` holds one line `$ COMMAND` and what it prints. A line `...`
at its end says that only so many lines are shown. With --check nothing is written; the exit is 1 when a page differs.
Lab notes and decisions are dated records: they are only run again when they are named.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```console\n\$ ([^\n]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CUT = "..."
RECORDS = {"decisions", "lab-notes"}


def printed(command: str) -> list[str]:
    """What the command prints, run by bash in the checkout, with this interpreter's headway."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    return [line.rstrip() for line in (done.stdout + done.stderr).strip().splitlines()]


def renewed(block: re.Match[str]) -> str:
    """The block with what its command prints today."""
    shown = block[2].splitlines()
    lines = printed(block[1])
    if shown and shown[-1] == CUT:
        lines = [*lines[: len(shown) - 1], CUT]
    return "\n".join([f"```console\n$ {block[1]}", *lines, "```"])


def outdated(pages: list[Path]) -> dict[Path, str]:
    """Page -> its new text, of those that differ."""
    found = {}
    for page in pages:
        text = page.read_text("utf-8")
        new = BLOCK.sub(renewed, text)
        if new != text:
            found[page] = new
    return found


def main() -> int:
    check = "--check" in sys.argv[1:]
    pages = [Path(word) for word in sys.argv[1:] if word != "--check"]
    if not pages:
        docs = sorted((ROOT / "docs").rglob("*.md"))
        pages = [ROOT / "README.md", *(page for page in docs if page.parent.name not in RECORDS)]
    changed = outdated(pages)
    for page, text in changed.items():
        print(f"{'differs' if check else 'rewrote'}: {page}")
        if not check:
            page.write_text(text, "utf-8")
    return int(check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
