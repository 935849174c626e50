"""Ends a simulation that would never end: requests are in flight, and nothing comes of it."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import NamedTuple

from headway.core.protocols import Clock, Timer
from headway.core.request import NS_PER_S
from headway.errors import PlanError
from headway.runtime.instance import Instance

EVERY_S = 600
PATIENCE = 12  # looks in a row without a token, all with preemptions: who is not preempted gets on


class Watchdog:
    """Looks every ten minutes of simulated time, while anything is in flight.

    An instance that computes is given time, unless it drops again what it computes; one that only sleeps and wakes
    is given none.
    """

    def __init__(self, clock: Clock, instances: Seq[Instance]) -> None:
        self._clock, self._instances = clock, instances
        self._timer: Timer | None = None
        self._ends = 0
        self._known = _Seen(0, 0, 0)
        self._silent = 0

    def submitted(self) -> None:
        """A request is in flight."""
        if self._timer is None:
            self._known, self._silent = self._seen(), 0
            self._later()

    def ended(self, in_flight: int) -> None:
        """One has ended; so many are left."""
        self._ends += 1
        if not in_flight and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _later(self) -> None:
        self._timer = self._clock.call_at(self._clock.now_ns() + EVERY_S * NS_PER_S, self._look)

    def _look(self) -> None:
        """Raise PlanError when it is time to give up."""
        for instance in self._instances:
            instance.settle()  # a leap's tokens count
        before, now = self._known, self._seen()
        self._known = now
        stuck = now.tokens == before.tokens and now.preemptions > before.preemptions
        self._silent = self._silent + 1 if stuck else 0
        if self._silent >= PATIENCE:
            self._give_up(f"no token in {self._silent * EVERY_S // 60} simulated minutes")
        if now == before and not any(one.busy or one.resting for one in self._instances):
            self._give_up(f"no step in {EVERY_S // 60} simulated minutes")
        self._later()

    def _give_up(self, what: str) -> None:
        first = self._instances[0]
        policies = (first.batching, first.ordering, first.memory)
        names = " + ".join(type(policy).__name__ for policy in policies)
        count = sum(len(instance.sequences) for instance in self._instances)
        raise PlanError(
            f"{names}: {what}, with {count} requests there and {self._known.preemptions} preemptions so far: "
            "choose other policies, or more KV blocks"
        )

    def _seen(self) -> _Seen:
        everybody = self._instances
        came = sum(s.output_tokens for one in everybody for s in one.sequences.values())
        steps = sum(instance.steps for instance in everybody)
        preemptions = sum(instance.preemptions for instance in everybody)
        return _Seen((self._ends << 40) + came, steps, preemptions)


class _Seen(NamedTuple):
    tokens: int  # and ends, which weigh more than any tokens that leave with them
    steps: int
    preemptions: int
