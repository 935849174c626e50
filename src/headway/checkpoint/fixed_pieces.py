"""One regular expression for thousands of fixed texts, the longest first.

An alternation of 6 000 tags tries all of them at every character; a tree of their letters tries one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_Tree = dict[str, "_Tree"]
_END = ""
NEVER = re.compile("((?!))")


def pattern_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Match the longest text that begins here; a capturing group, so that `split` keeps it."""
    tree: _Tree = {}
    for text in texts:
        if text:
            node = tree
            for letter in text:
                node = node.setdefault(letter, {})
            node[_END] = {}
    return re.compile(f"({_expression(tree)})") if tree else NEVER


def _expression(tree: _Tree) -> str:
    """Match any path from here to an end; letters without a fork stay side by side, to nest less."""
    branches = []
    for letter, below in tree.items():
        run, node = letter, below
        while len(node) == 1 and _END not in node:
            ((following, node),) = node.items()
            run += following
        if letter != _END:
            branches.append(re.escape(run) + (_expression(node) if node.keys() - {_END} else ""))
    together = f"(?:{'|'.join(branches)})"
    return f"{together}?" if _END in tree else together
