"""Asks the batching policy: fills idle lanes with its plans, and lets it interrupt busy ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq
from typing import TYPE_CHECKING

from headway.core.fleet import SHED
from headway.core.plan import StepPlan
from headway.core.protocols import WAKE
from headway.errors import PlanError
from headway.runtime.blame import misshapen, raised
from headway.runtime.check_plan import check_plan
from headway.runtime.launch import Launcher
from headway.runtime.make_way import make_way
from headway.runtime.traits import listener_of

if TYPE_CHECKING:
    from headway.runtime.instance import Instance


class Planning:
    """Between an instance and its batching policy. A policy is somebody else's code: whatever it raises
    stops the instance with a `PlanError` that names it, and never the process.
    """

    def __init__(self, instance: Instance, *, leap: bool) -> None:
        self._instance = instance
        self._launcher = Launcher(instance, leap=leap)
        self._on_event = listener_of(instance.batching)
        self._every_lane = tuple(instance.lanes)
        self._alarm: tuple[int, Callable[[], None]] | None = (
            None  # when to plan again, and its cancel
        )

    @property
    def listens(self) -> bool:
        """Does the policy want to interrupt steps?"""
        return self._on_event is not None

    def fill_lanes(self) -> None:
        """Plan for idle lanes until none is idle or nothing comes of it."""
        instance, queues, moves = self._instance, self._instance.queues, self._instance.moves
        while not instance.stopped and (queues.running or queues.waiting):
            idle = self._idle_lanes() if instance.busy else self._every_lane
            if not idle or moves.held:
                return
            if moves.copies:
                moves.copies.adopt(queues.waiting)
            if instance.dynamic:
                queues.sort()
            if instance.overlapped:
                queues.split()
            instance.view.open(instance.clock.now_ns(), idle)
            if instance.preempts:
                make_way(instance)
            plan = self._plan()
            if plan is None:
                return
            for sequence in plan.shed:
                instance.finish(sequence, SHED)
            draft = instance.view.draft
            if draft.moves and moves.must_wait() and not draft.swapped_in:
                plan = StepPlan(wake_at_ns=plan.wake_at_ns)  # with the room made there may be more
            if draft.taken or draft.moves:
                moves.carry_out(plan)
            if plan.wake_at_ns is not None or self._alarm:
                self._arm(plan.wake_at_ns)
            launched = False
            for lane, works in plan.work.items():
                if works:
                    self._launcher.launch(lane, works, plan)
                    launched = True
            emptied = instance.preempts and draft.preempted and not (launched or moves.pending)
            if not ((launched and instance.overlapped) or (emptied and not instance.busy)):
                return  # else: fill the second place, or what was just made empty

    def hear(self) -> None:
        """Tell the policy that something has happened while lanes are busy."""
        instance = self._instance
        if self._on_event is None or not instance.busy or instance.stopped:
            return
        instance.view.open(instance.clock.now_ns(), self._idle_lanes())
        try:
            wanted = dict(self._on_event(instance.view))
        except Exception as error:  # noqa: BLE001 - somebody else's code
            instance.stop(self._error("on_event", error))
            return
        for lane, boundary in wanted.items():
            for flight in instance.flights[lane]:
                if flight.handle:
                    flight.handle.interrupt(boundary)

    def woken(self) -> None:
        """The alarm has rung."""
        self._alarm = None

    def _plan(self) -> StepPlan | None:
        instance = self._instance
        if instance.deaf:
            instance.stop(instance.deaf)
            return None
        try:
            plan = instance.batching.plan(instance.view)
        except PlanError as error:
            instance.stop(error)
            return None
        except Exception as error:  # noqa: BLE001 - somebody else's code
            instance.stop(self._error("plan", error))
            return None
        try:
            check_plan(instance, plan)
        except PlanError as error:
            instance.stop(error)
        except Exception as error:  # noqa: BLE001 - what is no plan cannot be checked
            name, wrong = type(instance.batching).__name__, misshapen(plan)
            instance.stop(PlanError(f"{name}: {wrong}") if wrong else self._error("plan", error))
        else:
            return plan
        return None

    def _error(self, method: str, error: Exception) -> PlanError:
        return PlanError(raised(self._instance.batching, method, error))

    def _idle_lanes(self) -> Seq[str]:
        instance = self._instance
        if not instance.busy:
            return self._every_lane
        depth = instance.lanes
        return [lane for lane, flights in instance.flights.items() if len(flights) < depth[lane]]

    def _arm(self, wake_at_ns: int | None) -> None:
        if self._alarm:
            if self._alarm[0] == wake_at_ns:
                return
            self._alarm[1]()
            self._alarm = None
        if wake_at_ns is not None:
            instance = self._instance
            timer = instance.clock.call_at(wake_at_ns, instance.wake, WAKE, instance.key)
            self._alarm = (wake_at_ns, timer.cancel)
