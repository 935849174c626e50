"""Pools of a scenario: `prefill:2,decode:1@2` is two instances that prefill and one on two devices that decodes."""

from __future__ import annotations

from typing import NamedTuple

from headway.api.quantities import count
from headway.api.scenario import Scenario
from headway.core.fleet import DECODE, MIXED, PREFILL
from headway.errors import OptionError, UnknownNameError

_ROLES = (PREFILL, DECODE, MIXED)


class PoolText(NamedTuple):
    """One pool as it was written."""

    role: str
    instances: int
    tp: int


def pools_of(scenario: Scenario) -> list[PoolText]:
    """Read `roles`; without any, one mixed pool of `instances`.

    Raises:
        UnknownNameError: no such role.
        OptionError: no number, or a fleet that cannot prefill or cannot decode.
    """
    if scenario.roles is None:
        return [PoolText(MIXED, scenario.instances, scenario.tp)]
    pools = [_pool(text.strip(), scenario.tp) for text in scenario.roles.split(",")]
    if scenario.instances not in (1, sum(pool.instances for pool in pools)):
        raise OptionError(
            f"roles {scenario.roles!r} say how many instances there are: leave instances out"
        )
    roles = {pool.role for pool in pools}
    for role in (PREFILL, DECODE):
        if not roles & {role, MIXED}:
            raise OptionError(f"roles {scenario.roles!r}: nobody can {role}, add {role}:1")
    return pools


def _pool(text: str, tp: int) -> PoolText:
    role, colon, size = text.partition(":")
    if role not in _ROLES:
        raise UnknownNameError.among("role", role, _ROLES)
    instances, _, own_tp = size.partition("@")
    return PoolText(
        role,
        count(f"instances of {role}", instances) if colon else 1,
        count(f"tp of {role}", own_tp) if own_tp else tp,
    )
