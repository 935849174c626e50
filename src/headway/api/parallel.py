"""Many independent runs: here, one after the other, or in processes of their own."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence as Seq
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from headway.errors import HeadwayError, OptionError

T = TypeVar("T")
R = TypeVar("R")


def each(work: Callable[[T], R], items: Seq[T], jobs: int) -> Iterator[tuple[int, R]]:
    """(index, result) of every item as it is done; with one job in order and in this process.

    `work` and the items must pickle when there are several jobs.

    Raises:
        OptionError: they do not.
        HeadwayError: what `work` raised, or that a process died.
    """
    if jobs < 1:
        raise OptionError(f"jobs is {jobs}: give 1 or more")
    jobs = min(jobs, len(items))
    if jobs <= 1:
        yield from enumerate(map(work, items))
        return
    try:
        pickle.dumps((work, list(items)))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise OptionError(
            f"jobs={jobs} sends policies, timing and workload to other processes, and one does not "
            f"pickle ({error}): define it in a module, or use jobs=1"
        ) from error
    # Never fork: numpy's threads do not survive it.
    context = multiprocessing.get_context("spawn")
    before = set(multiprocessing.active_children())
    with ProcessPoolExecutor(jobs, context, initializer=_die_quietly) as pool:
        futures = {pool.submit(work, item): index for index, item in enumerate(items)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise HeadwayError(
                "a worker process died: it ran out of memory, or the calling script lacks "
                '`if __name__ == "__main__":`; use jobs=1 to see'
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()
            raise


def _die_quietly() -> None:
    """On Ctrl-C the parent speaks; a worker just ends."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
