"""Who waits and who runs, in the ordering policy's order; who of the running decodes and who prefills.

The two halves of `running` are kept as progress is applied, not found again for every plan.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from operator import attrgetter

from headway.core.protocols import Ordering
from headway.core.sequence import RUNNING, WAITING, Sequence

_ORDER = attrgetter("order")


class Queues:
    """The lists behind a view. `decode_version` changes whenever `decoding` does."""

    def __init__(self, ordering: Ordering) -> None:
        self._key: Callable[[Sequence], tuple[float, ...]] = ordering.key
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.decoding: list[Sequence] = []
        self.prefilling: list[Sequence] = []
        self.decode_version = 0

    def add_waiting(self, sequence: Sequence) -> None:
        """Enter, or come back after a preemption or a swap."""
        sequence.state = WAITING
        self._insert(self.waiting, sequence, anew=True)

    def add_running(self, sequence: Sequence) -> None:
        """Start taking part in steps."""
        sequence.state = RUNNING
        self._insert(self.running, sequence, anew=True)
        self._file(sequence)

    def enter(self, sequence: Sequence) -> None:
        """Come in, or back, with whatever KV it has."""
        if sequence.computed_tokens:
            self.add_running(sequence)
        else:
            self.add_waiting(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take out of whichever list holds it; the caller sets the new state."""
        if sequence.state == WAITING:
            self.waiting.remove(sequence)
        elif sequence.state == RUNNING:
            self.running.remove(sequence)
            self._unfile(sequence)

    def prefilled(self, sequence: Sequence) -> None:
        """Its input is computed: from now on it decodes."""
        self.prefilling.remove(sequence)
        self._insert(self.decoding, sequence)
        sequence.decodes = True
        self.decode_version += 1

    def refile(self, sequence: Sequence) -> None:
        """It got more input (a stream's next unit): file it anew among the running."""
        self._unfile(sequence)
        self._file(sequence)

    def _unfile(self, sequence: Sequence) -> None:
        if sequence.decodes:
            self.decoding.remove(sequence)
            sequence.decodes = False
            self.decode_version += 1
        else:
            self.prefilling.remove(sequence)

    def _file(self, sequence: Sequence) -> None:
        if sequence.in_prefill:
            self._insert(self.prefilling, sequence)
        else:
            self._insert(self.decoding, sequence)
            sequence.decodes = True
            self.decode_version += 1

    def split(self) -> None:
        """Find the two halves anew: with steps in flight ahead of results, they follow the expected state."""
        for sequence in self.running:
            sequence.decodes = not sequence.in_prefill
        self.decoding[:] = [s for s in self.running if s.decodes]
        self.prefilling[:] = [s for s in self.running if not s.decodes]
        self.decode_version += 1

    def sort(self) -> None:
        """Order everything again: keys of a dynamic ordering have moved."""
        key = self._key
        for queue in (self.waiting, self.running):
            for sequence in queue:
                sequence.order = key(sequence)
            queue.sort(key=_ORDER)
        self.prefilling.sort(key=_ORDER)
        before = list(self.decoding)
        self.decoding.sort(key=_ORDER)
        if before != self.decoding:
            self.decode_version += 1

    def _insert(self, queue: list[Sequence], sequence: Sequence, *, anew: bool = False) -> None:
        """Into its place, which is mostly the end."""
        if anew:
            sequence.order = self._key(sequence)
        if not queue or queue[-1].order <= sequence.order:
            queue.append(sequence)
        else:
            insort(queue, sequence, key=_ORDER)
