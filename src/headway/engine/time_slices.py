"""Lanes of one device that take turns at layer boundaries, so that their compute times follow their shares.

An engine that cannot give a lane a part of the cores gives it a part of the time: only one lane computes at a time, and
between two layers the device goes to whoever has had least for its share. While two lanes both want it, their times
over their shares differ by less than one layer of each over its share; a lane alone never waits; what a lane did not
want while it was away is not saved up.

Source: Goyal, Vin and Cheng, "Start-time Fair Queuing", SIGCOMM 1996, with a layer as the packet. It imitates parts of
the device only as far as compute goes: nothing overlaps, so that two lanes are never faster than one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition
from time import monotonic_ns

WHOLE = 1000  # per mille of the device


class Turn:
    """A step's hold on the device; used by the one thread that computes the step."""

    __slots__ = ("_slicer", "began_ns", "lane", "share", "start")

    def __init__(self, slicer: TimeSlicer, lane: str, share: int) -> None:
        self._slicer, self.lane, self.share = slicer, lane, share
        self.start = 0  # virtual: what its lane has had, over its share
        self.began_ns = 0  # of the layer under way

    def next_layer(self) -> None:
        """Let others compute when it is their turn; returns when it is this step's again."""
        self._slicer.next_layer(self)


class TimeSlicer:
    """Who computes the next layer? One for all lanes of an executor.

    `now_ns` should say when the device has done what it was given: synchronise before asking, where it runs ahead.
    """

    def __init__(self, now_ns: Callable[[], int] = monotonic_ns) -> None:
        self._now_ns = now_ns
        self._changed = Condition()
        self._holder: Turn | None = None
        self._waiting: list[Turn] = []  # in order of arrival: it decides between equals
        self._had: dict[str, int] = {}  # lane -> virtual time at which its next layer may start
        self._virtual = 0  # where the layer under way, or the last one, started

    @contextmanager
    def step(self, lane: str, share: int | None = None) -> Iterator[Turn]:
        """Hold the device for a step of `lane`, at `share` per mille; None counts as the whole."""
        turn = Turn(self, lane, max(1, WHOLE if share is None else share))
        with self._changed:
            turn.start = max(self._virtual, self._had.get(lane, 0))
            self._queue(turn)
        try:
            yield turn
        finally:
            with self._changed:
                self._charge(turn)
                self._holder = None
                self._pass_on()

    def next_layer(self, turn: Turn) -> None:
        """Charge the layer that has ended, and pass the device on or keep it."""
        with self._changed:
            self._charge(turn)
            if not self._waiting:
                self._virtual = turn.start
                return
            self._holder = None
            self._queue(turn)

    def _queue(self, turn: Turn) -> None:
        self._waiting.append(turn)
        if self._holder is None:
            self._pass_on()
        try:
            self._changed.wait_for(lambda: self._holder is turn)
        except BaseException:  # an interrupted wait must not keep the device
            if self._holder is turn:
                self._holder = None
                self._pass_on()
            else:
                self._waiting.remove(turn)
            raise
        turn.began_ns = self._now_ns()

    def _charge(self, turn: Turn) -> None:
        now_ns = self._now_ns()
        turn.start += (now_ns - turn.began_ns) * WHOLE // turn.share
        turn.began_ns = now_ns
        self._had[turn.lane] = turn.start

    def _pass_on(self) -> None:
        if self._waiting:
            self._holder = first = min(self._waiting, key=lambda turn: turn.start)
            self._waiting.remove(first)
            self._virtual = first.start
            self._changed.notify_all()
