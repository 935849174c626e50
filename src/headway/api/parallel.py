"""Many independent runs: here, one after the other, or in processes of their own."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence as Seq
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Self, TypeVar

from headway.errors import HeadwayError, OptionError

T = TypeVar("T")
R = TypeVar("R")


class Workers:
    """At most `jobs` processes, started when there is first work for two. Leaving ends them.

    Raises:
        OptionError: fewer than one job.
    """

    def __init__(self, jobs: int) -> None:
        if jobs < 1:
            raise OptionError(f"jobs is {jobs}: give 1 or more")
        self._jobs = jobs
        self._pool: ProcessPoolExecutor | None = None
        self._others = set(multiprocessing.active_children())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._pool is None:
            return
        self._pool.shutdown(wait=kind is None, cancel_futures=True)
        if kind is not None:  # nobody waits for results any more
            for child in set(multiprocessing.active_children()) - self._others:
                child.terminate()

    def each(self, work: Callable[[T], R], items: Seq[T]) -> Iterator[tuple[int, R]]:
        """(index, result) of every item as it is done; with one job in order and in this process.

        `work` and the items must pickle when there are several jobs.

        Raises:
            OptionError: they do not.
            HeadwayError: what `work` raised, or that a process died.
        """
        if min(self._jobs, len(items)) <= 1:
            yield from enumerate(map(work, items))
            return
        pool = self._started(work, items)
        futures = {pool.submit(work, item): index for index, item in enumerate(items)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise HeadwayError(
                "a worker process died: it ran out of memory, or the calling script lacks "
                '`if __name__ == "__main__":`; use jobs=1 to see'
            ) from error

    def _started(self, work: object, items: Seq[object]) -> ProcessPoolExecutor:
        try:
            pickle.dumps((work, list(items)))
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise OptionError(
                f"jobs={self._jobs} sends policies, timing and workload to other processes, and one does "
                f"not pickle ({error}): define it in a module, or use jobs=1"
            ) from error
        if self._pool is None:
            context = multiprocessing.get_context("spawn")  # numpy's threads do not survive a fork
            self._pool = ProcessPoolExecutor(self._jobs, context, initializer=_die_quietly)
        return self._pool


def _die_quietly() -> None:
    """On Ctrl-C the parent speaks; a worker just ends."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
