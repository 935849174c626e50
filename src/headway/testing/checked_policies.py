"""Policies that look over another's shoulder: they pass its decisions on and note broken promises."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from headway.core.plan import SWAP_OUT
from headway.core.request import Request
from headway.core.sequence import RUNNING, Sequence
from headway.core.views import FleetView, InstanceView

HOW = ("recompute", SWAP_OUT)


class Checked:
    """Notes what is wrong: the runtime survives a policy that raises, so raising alone would be overheard."""

    def __init__(self, policy: Any, complaints: list[str]) -> None:
        self.policy, self._complaints = policy, complaints

    def require(self, promise: object, complaint: str) -> None:
        """Complain unless the promise was kept."""
        if not promise:
            self._complaints.append(complaint)
            raise AssertionError(complaint)

    def ask(self, method: str, *arguments: object) -> Any:
        """Call the policy; complain when it raises."""
        try:
            return getattr(self.policy, method)(*arguments)
        except Exception as error:  # the policy under test: noted, and raised again
            self._complaints.append(f"{method}() raised {type(error).__name__}: {error}")
            raise


class CheckedOrdering(Checked):
    """Passes keys through and compares them with those before."""

    def __init__(self, policy: Any, complaints: list[str]) -> None:
        super().__init__(policy, complaints)
        self.dynamic = bool(getattr(policy, "dynamic", False))
        self.preempts = bool(getattr(policy, "preempts", False))
        self._keys: dict[int, tuple[float, ...]] = {}
        self._owners: dict[tuple[float, ...], int] = {}

    def key(self, sequence: Sequence) -> tuple[float, ...]:
        key: tuple[float, ...] = self.ask("key", sequence)
        self.require(self.ask("key", sequence) == key, "key() gives two answers for one sequence")
        if not self.dynamic:
            known = self._keys.setdefault(sequence.id, key)
            self.require(
                known == key,
                f"the key of {sequence!r} moved from {known} to {key}: say dynamic = True",
            )
            owner = self._owners.setdefault(key, sequence.id)
            twins = f"requests {owner} and {sequence.id} share key {key}"
            self.require(owner == sequence.id, f"{twins}: end it with the request id")
        return key


class CheckedMemory(Checked):
    """Passes victims through and compares them with the candidates."""

    def __init__(self, policy: Any, complaints: list[str]) -> None:
        super().__init__(policy, complaints)
        self.needs = frozenset(getattr(policy, "needs", ()))

    def __getattr__(self, name: str) -> Any:
        """What else it says of itself: how blocks lie and move, and what the host keeps."""
        if name in ("group_blocks", "waits", "keeps_turns", "incremental", "kept_blocks"):
            return getattr(self.policy, name)
        raise AttributeError(name)

    def victims(
        self, view: InstanceView, blocks: int, candidates: Iterable[Sequence]
    ) -> list[tuple[Sequence, str]]:
        allowed = list(candidates)
        chosen = list(self.ask("victims", view, blocks, list(allowed)))
        for sequence, how in chosen:
            self.require(sequence in allowed, f"{sequence!r} is no candidate: choose among those")
            self.require(how in HOW, f"{how!r} is no way to take blocks: use {' or '.join(HOW)}")
            self.require(
                sequence.state == RUNNING, f"{sequence!r} was changed by the memory policy"
            )
        self.require(len({s for s, _ in chosen}) == len(chosen), "a victim was chosen twice")
        return chosen


@dataclass(frozen=True)
class _FleetShot:
    instances: tuple[str, ...]
    loads: tuple[int, ...]
    in_flight: int

    @classmethod
    def of(cls, view: FleetView) -> _FleetShot:
        names = tuple(view.instances)
        loads = tuple(view.load(n, m) for n in names for m in ("requests", "prompt_tokens"))
        return cls(names, loads, view.in_flight)


class CheckedRouting(Checked):
    """Passes routes through."""

    def route(self, request: Request, view: FleetView) -> str:
        before = _FleetShot.of(view)
        name: str = self.ask("route", request, view)
        known = ", ".join(before.instances)
        self.require(name in before.instances, f"{name!r} takes no requests: {known}")
        self.require(_FleetShot.of(view) == before, "route() changed its view: views are read-only")
        return name


class CheckedAdmission(Checked):
    """Passes answers through."""

    def admit(self, request: Request, view: FleetView) -> str | None:
        before = _FleetShot.of(view)
        answer: object = self.ask("admit", request, view)
        why_not = answer if isinstance(answer, str) else None
        what = f"admit() returned {answer!r}"
        self.require(answer is None or why_not, f"{what}: None accepts, else a reason in words")
        self.require(_FleetShot.of(view) == before, "admit() changed its view: views are read-only")
        return why_not
