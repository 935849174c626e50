"""What a policy says of itself beyond its one method, with the defaults for those that say nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from headway.core.protocols import Batching, Speculation
from headway.core.views import InstanceView
from headway.errors import MissingCapabilityError

ONE_LANE = {"main": 1}
DEFAULT_STEP_TOKENS = 8192


def lanes_of(batching: Batching) -> dict[str, int]:
    """Lane -> steps in flight: 1, or 2 to plan before the last one lands."""
    return dict(getattr(batching, "lanes", ONE_LANE))


def needs_of(policy: object) -> frozenset[str]:
    """Capabilities it needs of a world."""
    return frozenset(getattr(policy, "needs", ()))


def step_tokens_of(batching: Batching) -> int:
    """Most tokens one of its steps computes: sizes the activation peak."""
    return int(getattr(batching, "step_tokens", DEFAULT_STEP_TOKENS))


def listener_of(batching: Batching) -> Callable[[InstanceView], dict[str, str]] | None:
    """Its `on_event`, if it wants to interrupt steps."""
    return cast(
        "Callable[[InstanceView], dict[str, str]] | None", getattr(batching, "on_event", None)
    )


def is_dynamic(ordering: object) -> bool:
    """Do its keys change as sequences progress?"""
    return bool(getattr(ordering, "dynamic", False))


def speculation_of(policy: Speculation) -> Speculation | None:
    """The policy, or None when it never drafts (`silent = True`): then nobody need ask it."""
    return None if getattr(policy, "silent", False) else policy


def check_needs(world: str, offers: frozenset[str], *policies: object) -> None:
    """Refuse a policy whose needs the world lacks.

    Raises:
        MissingCapabilityError: naming the policy, the world and what is missing.
    """
    for policy in policies:
        lacking = sorted(needs_of(policy) - offers)
        if lacking:
            raise MissingCapabilityError(
                f"{type(policy).__name__} needs {', '.join(lacking)}, which {world} does not offer"
                f" (it offers {', '.join(sorted(offers))}): choose another policy or world"
            )
