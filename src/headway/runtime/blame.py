"""Whose fault was it? Sentences about policies that raise, or answer with something else than their kind must."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, TypeVar

from headway.core.plan import StepPlan, Work
from headway.core.sequence import Sequence
from headway.errors import HeadwayError, PlanError

Answer = TypeVar("Answer")


def raised(policy: object, method: str, error: Exception) -> str:
    """Name the policy, what it raised, and the last line of its own file on the way there."""
    where, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if trace.tb_frame.f_globals.get("__name__") == type(policy).__module__:
            where = f" ({PurePath(code.co_filename).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(policy).__name__}: {method}() raised {type(error).__name__}: {error}{where}"


def asked(policy: object, method: str, read: Callable[[Any], Answer], *arguments: object) -> Answer:
    """What the policy's method answers, through `read`, which may find fault with it.

    Raises:
        PlanError: either raised, with the name of this policy and not of who asked.
    """
    try:
        return read(getattr(policy, method)(*arguments))
    except HeadwayError:
        raise
    except Exception as error:
        raise PlanError(raised(policy, method, error)) from error


def victims_of(answer: Any) -> list[tuple[Sequence, str]]:
    """What a memory policy chose: pairs of sequence and how."""
    pairs = list(answer)
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(f"{pair!r} is no pair (sequence, how) with how recompute or swap_out")
    return pairs


def draft_lengths(answer: Any) -> int | list[int]:
    """What a speculation policy said: one number for all, or a list of them."""
    if isinstance(answer, int):
        return max(0, answer)
    lengths = [max(0, length) for length in answer]
    if not all(isinstance(length, int) for length in lengths):
        raise TypeError(f"{lengths!r} are no draft lengths: use whole numbers")
    return lengths


def misshapen(plan: object) -> str | None:
    """What is wrong with the shape of what `plan()` returned; None when it is a plan."""
    if not isinstance(plan, StepPlan):
        return f"plan() returned {type(plan).__name__}: return StepPlan({{lane: works}})"
    if not isinstance(plan.work, Mapping):
        return f"StepPlan was given {type(plan.work).__name__} as work: give it {{lane: works}}"
    for lane, works in plan.work.items():
        for work in works:
            if not isinstance(work, Work):
                kind = type(work).__name__
                return f"{kind} among the works of lane {lane!r}: leave out what take() refused"
    return None
