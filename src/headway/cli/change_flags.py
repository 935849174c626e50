"""The flags of `whatif` that describe a change to a measured run.

Not `from __future__ import annotations`: typer reads the annotations of functions put together here.
"""

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

if TYPE_CHECKING:
    from headway.api import Change

_POLICY = "POLICY"


# The signatures of the next two functions are the flags; they are never called.


def _policy_flags(
    *,
    batching: Annotated[str | None, Option(metavar=_POLICY, help="What to compute next.")] = None,
    ordering: Annotated[str | None, Option(metavar=_POLICY, help="Who goes first.")] = None,
    memory: Annotated[str | None, Option(metavar=_POLICY, help="Whom to take KV from.")] = None,
    routing: Annotated[str | None, Option(metavar=_POLICY, help="Which instance.")] = None,
    admission: Annotated[
        str | None, Option(metavar=_POLICY, help="Accept, or say why not.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        Option("--set", metavar="POLICY.OPTION=VALUE", help="Set an option; repeatable."),
    ] = None,
) -> None:
    """Who would have decided."""


def _machine_flags(
    *,
    gpu: Annotated[
        str | None, Option("--gpu", "--device", help="Another device, by the ratio of rooflines.")
    ] = None,
    model: Annotated[str | None, Option(help="Another model, likewise.")] = None,
    precision: Annotated[str | None, Option(help="Another number format, likewise.")] = None,
    tp: Annotated[str | None, Option(metavar="N", help="Devices per instance, likewise.")] = None,
    instances: Annotated[
        str | None, Option(metavar="N", help="Copies of the instance behind one router.")
    ] = None,
    kv_blocks: Annotated[str | None, Option(metavar="N", help="KV blocks of an instance.")] = None,
    rate_scale: Annotated[
        str | None, Option(metavar="X", help="Arrivals so many times as fast.")
    ] = None,
) -> None:
    """On what it would have run."""


_SHARED = {
    name: flag
    for group in (_policy_flags, _machine_flags)
    for name, flag in inspect.signature(group).parameters.items()
}


def takes_change(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb all these flags; it is called with the run, the `Change` they describe, then its own flags."""
    run, _, *own = inspect.signature(verb).parameters.values()
    every = [run, *_SHARED.values(), *own]
    flags = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in every[1:]]

    @functools.wraps(verb)
    def command(run: str, **given: Any) -> None:
        described = {name: given.pop(name) for name in _SHARED}
        verb(run, _change(**described), **given)

    command.__signature__ = inspect.Signature([run, *flags])  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in every}
    return command


def _change(
    *,
    settings: list[str] | None,
    gpu: str | None,
    model: str | None,
    precision: str | None,
    rate_scale: str | None,
    **texts: str | None,
) -> "Change":
    """Read the texts."""
    from headway.api import Change
    from headway.api.policy_choices import parse_settings
    from headway.api.quantities import count, positive

    def counted(name: str) -> int | None:
        text = texts.pop(name)
        return None if text is None else count(f"--{name.replace('_', '-')}", text)

    tp, instances, kv_blocks = counted("tp"), counted("instances"), counted("kv_blocks")
    scale = None
    if rate_scale is not None:
        scale = positive("--rate-scale", rate_scale.removesuffix("x"))
    return Change(
        policies={kind: name for kind, name in texts.items() if name is not None},
        options=parse_settings(settings or ()),
        gpu=gpu,
        model=model,
        precision=precision,
        tp=tp,
        instances=instances,
        kv_blocks=kv_blocks,
        rate_scale=scale,
    )
