"""Prefix affinity: send a request where the longest part of its prefix was sent before.

Pure by default: affinity decides whenever there is any, whatever the load. `load_guard` > 0 gives it up when the
chosen instance has more than `load_guard` times the mean load (and at least `slack` more requests than it).

Source: the cache-aware routing of SGLang's router (Zheng et al., NeurIPS 2024).
Differs: remembers extents by hash in a table of at most `entries`, oldest forgotten first, instead of a radix tree
over text; never asks instances what they still hold. Tenants are kept apart.
Cost: O(extents of the prefix) per request.
"""

from dataclasses import dataclass, field

from headway.core import FleetView, Request


@dataclass
class PrefixAffinity:
    """Options: load guard (0: none), its slack in requests, and how many extents to remember."""

    load_guard: float = 0.0
    slack: int = 4
    entries: int = 1_000_000
    _sent: dict[tuple[str, int], str] = field(default_factory=dict, init=False, repr=False)

    def route(self, request: Request, view: FleetView) -> str:
        """The longest known prefix's instance, else the least loaded one."""
        sent, tenant, prefix = self._sent, request.tenant, request.prefix
        name = None
        for extent_hash, _ in reversed(prefix):
            name = sent.get((tenant, extent_hash))
            if name is not None:
                break
        if name is None or name not in view.instances or self._crowded(name, view):
            name = view.least_loaded()
        for extent_hash, _ in prefix:
            sent[(tenant, extent_hash)] = name
        if request.next_extent is not None:
            sent[(tenant, request.next_extent)] = name
        while len(sent) > self.entries:
            del sent[next(iter(sent))]
        return name

    def _crowded(self, name: str, view: FleetView) -> bool:
        if self.load_guard <= 0:
            return False
        mean = view.in_flight / len(view.instances)
        return view.load(name) > max(self.load_guard * mean, mean + self.slack)
