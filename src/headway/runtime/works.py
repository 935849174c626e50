"""Work lists that remember that they begin with every decode.

A policy that writes `decodes + chunks` gets a plain list to look at; the runtime sees that its head is exactly what
the view counted, and neither checks nor copies it again. `[*decodes, *chunks]` means the same and costs more.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

from headway.core.plan import Work
from headway.core.sequence import Sequence


class DecodeWorks(list[Work]):
    """One plain work (one token, all layers, no drafts) of every running decode, in order."""

    def __init__(self, sequences: Seq[Sequence] = ()) -> None:
        super().__init__([sequence.decode for sequence in sequences])
        self.sequences = tuple(sequences)

    def __add__(self, others: list[Work]) -> MixedWorks:  # type: ignore[override] # list + list, narrower
        """Decodes first, then others."""
        return MixedWorks(self, others)


class MixedWorks(list[Work]):
    """`head` followed by others."""

    def __init__(self, head: DecodeWorks, others: list[Work]) -> None:
        super().__init__(head)
        self.extend(others)
        self.head = head
        self.others = others


def head_of(works: object, decodes: DecodeWorks) -> Seq[Sequence]:
    """Sequences of the works at the start that are known to be the view's decodes."""
    if works is decodes:
        return decodes.sequences
    if (
        type(works) is MixedWorks
        and works.head is decodes
        and len(works) == len(decodes) + len(works.others)
    ):
        return decodes.sequences
    return ()
