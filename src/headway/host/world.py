"""What a host's child is made of besides an instance: an executor and what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headway.clocks.wall import WallClock
from headway.core.protocols import Executor, TimingModel
from headway.core.request import Request
from headway.host.spec import HostSpec


@dataclass(frozen=True)
class World:
    """An executor on a wall clock. `accept` hears of a request before the instance does."""

    model: str
    device: str
    dtype: str
    executor: Executor
    accept: Callable[[Request], None] = lambda request: None
    close: Callable[[], None] = lambda: None
    timing: TimingModel | None = None


OnLayer = Callable[[int, int], None]
"""(layers loaded, layers in all); called from the loading thread."""

OpenWorld = Callable[[HostSpec, OnLayer], Callable[[WallClock], World]]
"""Loads what takes long, on a thread of its own; what it returns is called on the event loop's thread."""
