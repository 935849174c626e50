"""What a policy says of itself beyond its one method, with the defaults for those that say nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

from headway.core.protocols import DENOISES, Batching, Speculation
from headway.core.request import Request
from headway.core.views import InstanceView
from headway.errors import MissingCapabilityError

ONE_LANE = {"main": 1}
DEFAULT_STEP_TOKENS = 8192
DEFAULT_LOGIT_ROWS = 256


def lanes_of(batching: Batching) -> dict[str, int]:
    """Lane -> steps in flight: 1, or 2 to plan before the last one lands."""
    return dict(getattr(batching, "lanes", ONE_LANE))


def needs_of(policy: object) -> frozenset[str]:
    """Capabilities it needs of a world."""
    return frozenset(getattr(policy, "needs", ()))


def step_tokens_of(batching: Batching) -> int:
    """Most tokens one of its steps computes: sizes the activation peak."""
    return int(getattr(batching, "step_tokens", DEFAULT_STEP_TOKENS))


def logit_rows_of(batching: Batching) -> int:
    """Most rows of logits held at once: sizes the activation peak too."""
    return int(getattr(batching, "logit_rows", DEFAULT_LOGIT_ROWS))


def no_denoising(request: Request, batching: Batching, offers: frozenset[str]) -> str | None:
    """Why a diffusion model's request cannot be served here, or None."""
    if DENOISES not in offers:
        return "this world runs no diffusion models: simulate it"
    if not getattr(batching, "denoises", False) or max(lanes_of(batching).values()) > 1:
        name = type(batching).__name__
        return f"{name} plans no denoising steps: choose a batching policy that does, dllm_serve"
    if request.prefix or request.period_ns:
        return "a diffusion model attends both ways, so it shares no prefix and takes no stream: send it plain"
    return None


def listener_of(batching: Batching) -> Callable[[InstanceView], dict[str, str]] | None:
    """Its `on_event`, if it wants to interrupt steps."""
    return cast(
        "Callable[[InstanceView], dict[str, str]] | None", getattr(batching, "on_event", None)
    )


def is_dynamic(ordering: object) -> bool:
    """Do its keys change as sequences progress?"""
    return bool(getattr(ordering, "dynamic", False))


def preempts(ordering: object) -> bool:
    """May who waits take blocks from who runs behind it?"""
    return bool(getattr(ordering, "preempts", False))


class CopyTraits(NamedTuple):
    """What a memory policy wants of the host beside swapping; see `core.protocols.Memory`."""

    turns: bool
    incremental: bool
    blocks: int


def copies_of(memory: object) -> CopyTraits | None:
    """None when it keeps none."""
    turns = bool(getattr(memory, "keeps_turns", False))
    incremental = bool(getattr(memory, "incremental", False))
    blocks = int(getattr(memory, "kept_blocks", 0))
    return CopyTraits(turns, incremental, blocks) if blocks and (turns or incremental) else None


def group_blocks_of(memory: object) -> int:
    """How blocks lie and move: 0 anywhere, gathered; 1 one by one; more in extents."""
    return int(getattr(memory, "group_blocks", 0))


def waits_of(memory: object) -> Callable[[InstanceView], bool] | None:
    """Its `waits`, if lanes may have to wait for swaps."""
    return cast("Callable[[InstanceView], bool] | None", getattr(memory, "waits", None))


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
