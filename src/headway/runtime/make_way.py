"""Preemption by priority: before a plan, those who go first in the ordering's order get the room of those behind.

Only for an ordering that says `preempts`: otherwise who waits takes nothing from who runs. Waiting sequences are looked
at in order, as long as somebody runs behind them; whom to move out, and how, is the memory policy's answer. Nobody is
moved for a sequence that would not fit even then.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from headway.runtime.blame import asked, victims_of

if TYPE_CHECKING:
    from headway.core.sequence import Sequence
    from headway.runtime.instance import Instance

_LOOKS = 32  # waiting sequences that may ask in one plan


def make_way(instance: Instance) -> None:
    """Record in the draft who leaves. Cost: O(running) per plan in which somebody waits before one who runs."""
    view, queues = instance.view, instance.queues
    waiting, running = queues.waiting, queues.running
    if not waiting or not running or waiting[0].order > running[-1].order:
        return
    behind = [s for s in running if s.blocks and not s.leases]
    # A block for everybody who runs, as for a swap-in; what is on its way out counts as room.
    room = view.free_blocks + instance.moves.leaving_blocks - len(running)
    for asker in islice(waiting, _LOOKS):
        candidates = [s for s in behind if s.order > asker.order]
        if not candidates:
            return
        room -= view.blocks_to_start(asker)
        if room >= 0:
            continue
        if room + sum(len(candidate.blocks) for candidate in candidates) < 0:
            return
        victims = asked(instance.memory, "victims", victims_of, view, -room, candidates[::-1])
        moved: list[Sequence] = view.move_out(victims)
        if not moved:
            return
        room += sum(len(victim.blocks) for victim in moved)
        behind = [s for s in behind if s not in moved]
