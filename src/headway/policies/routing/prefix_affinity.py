"""Prefix affinity: send a request where the longest part of its prefix was sent before.

Pure by default: affinity decides whenever there is any, whatever the load. `load_guard` > 0 gives it up when the
chosen instance has more than `load_guard` times the mean load (and at least `slack` more requests than it).

Source: the cache-aware routing of SGLang's router (Zheng et al., NeurIPS 2024).
Differs: remembers extents by hash in a table of at most `entries`, oldest forgotten first, instead of a radix tree
over text; never asks instances what they still hold. Tenants are kept apart.
Cost: O(extents of the prefix) per request.
"""

from dataclasses import dataclass, field
from itertools import islice

from headway.core import FleetView, Request


@dataclass
class PrefixAffinity:
    """Options: load guard (0: none), its slack in requests, and how many extents to remember."""

    load_guard: float = 0.0
    slack: int = 4
    entries: int = 1_000_000
    _sent: dict[object, str] = field(default_factory=dict, init=False, repr=False)

    def route(self, request: Request, view: FleetView) -> str:
        """The longest known prefix's instance, else the least loaded one."""
        sent, tenant = self._sent, request.tenant
        extents: list[object] = [extent_hash for extent_hash, _ in request.prefix]
        if tenant:
            extents = [(tenant, extent_hash) for extent_hash in extents]
        name = next(filter(None, map(sent.get, reversed(extents))), None)
        if name is None or name not in view.instances or self._crowded(name, view):
            name = view.least_loaded()
        sent.update(dict.fromkeys(extents, name))
        if request.next_extent is not None:
            sent[(tenant, request.next_extent) if tenant else request.next_extent] = name
        if len(sent) > self.entries:
            self._forget()
        return name

    def _forget(self) -> None:
        """An eighth at once: taking the first key out of a dict over and over is quadratic."""
        sent = self._sent
        for extent in list(islice(sent, len(sent) - self.entries * 7 // 8)):
            del sent[extent]

    def _crowded(self, name: str, view: FleetView) -> bool:
        if self.load_guard <= 0:
            return False
        mean = view.in_flight / len(view.instances)
        return view.load(name) > max(self.load_guard * mean, mean + self.slack)
